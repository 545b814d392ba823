#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/service.pb.h"

// The log of a job's ranks: log.jsonl in the job's folder, a JSON row a line, and the rows before
// them in log.jsonl.1.
namespace imageddpo {

inline constexpr char kLogName[] = "log.jsonl";
inline constexpr char kOldLogName[] = "log.jsonl.1";
inline constexpr int64_t kMaxLogFileBytes = 8 << 20;

/// The row of a line, with a newline.
std::string LogRow(int world_rank, const v1::LogReport& report);
/// The line of a row. nullopt: it is no such row.
std::optional<v1::LogLine> ReadLogRow(std::string_view row);

/// How bad a level is: 0 for trace, more for each worse one. nullopt: there is no such level.
std::optional<int> LogLevelNumber(std::string_view level);

}  // namespace imageddpo
