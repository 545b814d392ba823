#include "common/worker/job_log_sink.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace imageddpo {

JobLogSink::JobLogSink(std::string job_id, std::function<void(v1::WorkerMessage)> send,
                       const Clock& clock)
    : job_id_(std::move(job_id)),
      send_(std::move(send)),
      clock_(clock),
      last_s_(clock.NowSeconds()) {}

void JobLogSink::sink_it_(const spdlog::details::log_msg& line) {
  const double now_s = clock_.NowSeconds();
  allowed_ = std::min(kBurst, allowed_ + (now_s - last_s_) * kLinesPerSecond);
  last_s_ = now_s;
  if (allowed_ < 1) {
    ++num_dropped_;
    return;
  }
  allowed_ -= 1;
  const int64_t unix_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(line.time.time_since_epoch()).count();
  TellOfDropped(unix_ms);
  const spdlog::string_view_t level = spdlog::level::to_string_view(line.level);
  Send(unix_ms, std::string(level.data(), level.size()),
       Excerpt({line.payload.data(), line.payload.size()}, kMaxLineBytes));
}

void JobLogSink::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  TellOfDropped(static_cast<int64_t>(clock_.UnixSeconds() * 1000));
}

void JobLogSink::TellOfDropped(int64_t unix_ms) {
  if (num_dropped_ == 0) return;
  Send(unix_ms, "warning",
       absl::StrCat(std::exchange(num_dropped_, 0), " lines are left out here, more than ",
                    kLinesPerSecond, " a second; the rank's standard error has them"));
}

void JobLogSink::Send(int64_t unix_ms, const std::string& level, std::string message) {
  v1::WorkerMessage sent;
  v1::LogReport& log = *sent.mutable_log();
  log.set_job_id(job_id_);
  log.set_unix_ms(unix_ms);
  log.set_level(level);
  log.set_message(std::move(message));
  send_(std::move(sent));
}

}  // namespace imageddpo
