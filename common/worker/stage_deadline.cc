#include "common/worker/stage_deadline.h"

#include <algorithm>

namespace imageddpo {

std::optional<StageDeadline::Hang> StageDeadline::Look(const char* stage, uint64_t number,
                                                       double seconds) {
  seconds_ += seconds;
  if (number != number_) {
    if (!stage_.empty()) longest_[stage_] = std::max(longest_[stage_], seconds_);
    stage_ = stage != nullptr ? stage : "";
    number_ = number;
    seconds_ = 0;
  }
  if (stage_.empty() || max_seconds_ <= 0) return std::nullopt;
  const auto longest = longest_.find(stage_);
  const double learned = longest == longest_.end()
                             ? max_seconds_
                             : std::max(kShortestSeconds, kTimesTheLongest * longest->second);
  const double limit = std::min(max_seconds_, learned);
  if (seconds_ <= limit) return std::nullopt;
  return Hang{.stage = stage_, .seconds = seconds_, .limit = limit};
}

}  // namespace imageddpo
