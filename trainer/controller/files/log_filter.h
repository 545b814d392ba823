#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// Which lines of a job's log a request asks for.
class LogFilter {
 public:
  static constexpr int64_t kMaxTail = 1000;

  /// @return INVALID_ARGUMENT naming the field that is wrong.
  static absl::StatusOr<LogFilter> Of(const v1::StreamLogsRequest& request);

  bool Wants(const v1::LogLine& line) const;
  /// The last so many of these lines, at most kMaxTail; 0: all of them.
  int64_t tail() const { return tail_; }

 private:
  v1::StreamLogsRequest request_;
  int min_level_ = 0;
  int64_t tail_ = 0;
};

}  // namespace imageddpo
