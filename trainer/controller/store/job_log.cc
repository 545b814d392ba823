#include "trainer/controller/store/job_log.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace imageddpo {
namespace {

constexpr auto kLevels =
    std::to_array<std::string_view>({"trace", "debug", "info", "warning", "error", "critical"});

}  // namespace

std::string LogRow(int world_rank, const v1::LogReport& report) {
  const nlohmann::ordered_json row = {
      {"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(report.unix_ms()),
                                absl::UTCTimeZone())},
      {"level", report.level()},
      {"rank", world_rank},
      {"message", report.message()}};
  return absl::StrCat(row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace),
                      "\n");
}

std::optional<v1::LogLine> ReadLogRow(std::string_view row) {
  const auto json =
      nlohmann::json::parse(row.begin(), row.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto time = json.find("time"), level = json.find("level"), rank = json.find("rank"),
             message = json.find("message");
  if (time == json.end() || !time->is_string() || level == json.end() || !level->is_string() ||
      rank == json.end() || !rank->is_number_integer() || message == json.end() ||
      !message->is_string()) {
    return std::nullopt;
  }
  absl::Time parsed;
  if (!absl::ParseTime(absl::RFC3339_full, time->get<std::string>(), &parsed, nullptr)) {
    return std::nullopt;
  }
  v1::LogLine line;
  const int64_t unix_ms = absl::ToUnixMillis(parsed);
  line.mutable_time()->set_seconds(unix_ms / 1000);
  line.mutable_time()->set_nanos(static_cast<int32_t>(unix_ms % 1000 * 1000000));
  line.set_level(level->get<std::string>());
  line.set_rank(rank->get<int>());
  line.set_message(message->get<std::string>());
  return line;
}

std::optional<int> LogLevelNumber(std::string_view level) {
  const auto* const found = std::find(kLevels.begin(), kLevels.end(), level);
  if (found == kLevels.end()) return std::nullopt;
  return static_cast<int>(std::distance(kLevels.begin(), found));
}

}  // namespace imageddpo
