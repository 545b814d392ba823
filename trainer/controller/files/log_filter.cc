#include "trainer/controller/files/log_filter.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "trainer/controller/store/job_log.h"

namespace imageddpo {

absl::StatusOr<LogFilter> LogFilter::Of(const v1::StreamLogsRequest& request) {
  LogFilter filter;
  filter.request_ = request;
  if (!request.min_level().empty()) {
    const std::optional<int> level = LogLevelNumber(request.min_level());
    if (!level.has_value()) {
      return InvalidField("min_level",
                          absl::StrCat("is `", request.min_level(),
                                       "`; give trace, debug, info, warning, error or critical"));
    }
    filter.min_level_ = *level;
  }
  if (request.tail() < 0) {
    return InvalidField("tail", absl::StrCat("is ", request.tail(), "; it must not be negative"));
  }
  if (request.cursor().empty()) filter.tail_ = std::min(request.tail(), kMaxTail);
  return filter;
}

bool LogFilter::Wants(const v1::LogLine& line) const {
  if (request_.has_rank() && line.rank() != request_.rank()) return false;
  if (LogLevelNumber(line.level()).value_or(0) < min_level_) return false;
  const auto key = [](const google::protobuf::Timestamp& time) {
    return std::pair(time.seconds(), time.nanos());
  };
  return !request_.has_since() || key(line.time()) >= key(request_.since());
}

}  // namespace imageddpo
