#pragma once

#include <spdlog/sinks/base_sink.h>

#include <functional>
#include <mutex>
#include <string>

#include "common/base/clock.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// Sends the lines of a job's logger to the controller, for the job's log: at most kLinesPerSecond,
/// after a burst of kBurst lines, each cut to kMaxLineBytes. What is left out is counted, and said
/// in a line of its own. Thread-safe; does not block.
class JobLogSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  static constexpr double kLinesPerSecond = 10;
  static constexpr double kBurst = 200;
  static constexpr size_t kMaxLineBytes = 4096;

  /// @param send  thread-safe and not blocking. @param clock  must outlive the sink.
  JobLogSink(std::string job_id, std::function<void(v1::WorkerMessage)> send, const Clock& clock);

  /// Says what was left out and not said yet. Call it after the last line.
  void Close();

 protected:
  void sink_it_(const spdlog::details::log_msg& line) override;
  void flush_() override {}

 private:
  void Send(int64_t unix_ms, const std::string& level, std::string message);
  void TellOfDropped(int64_t unix_ms);

  const std::string job_id_;
  const std::function<void(v1::WorkerMessage)> send_;
  const Clock& clock_;
  // Guarded by the base class's mutex.
  double allowed_ = kBurst;  // Lines that may be sent now.
  double last_s_;            // When allowed_ was counted.
  int64_t num_dropped_ = 0;
};

}  // namespace imageddpo
