#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "spdlog/logger.h"

namespace imageddpo {

/// Where a process's log lines go and which of them.
struct LogOptions {
  /// 0-based rank in the pool; every line carries it. Not set: the client and other single
  /// processes.
  std::optional<int> rank;
  /// trace | debug | info | warning | error | off. Lines below it are dropped.
  std::string level = "info";
  /// One JSON object per line {"time","level","rank","job","thread","message"} instead of plain
  /// text.
  bool json = false;
  /// Lines go here; nullptr: standard error. Must outlive the logger and its clones.
  std::ostream* stream = nullptr;
  /// They go to this file too, with ".rank-<rank>" behind its name; empty: they do not. When the
  /// file is full, a new one begins, and the old one is FILE.1.rank-<rank>, the one before
  /// FILE.2.…, up to max_files.
  std::string file = "";
  int64_t max_file_bytes = 64 << 20;
  int64_t max_files = 5;
};

/// Builds the one logger of a process, which is then passed by constructor; nothing is registered
/// globally. The logger is thread-safe; each line is flushed. A message is one line of valid UTF-8,
/// whatever is in it: Printable() of common/base/text.h.
/// Errors: INVALID_ARGUMENT for an unknown level; FAILED_PRECONDITION: the file cannot be written.
absl::StatusOr<std::shared_ptr<spdlog::logger>> MakeLogger(const LogOptions& options);

/// A logger with the same options and sink whose lines carry `job_id` as well.
std::shared_ptr<spdlog::logger> WithJob(const spdlog::logger& logger, const std::string& job_id);

}  // namespace imageddpo
