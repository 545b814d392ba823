#include "common/trajectory/schedule/version_schedule.h"

#include <algorithm>

#include "common/config/job_plan.h"

namespace imageddpo {

VersionSchedule::VersionSchedule(const v1::JobSpec& job)
    : num_epochs_(job.num_epochs()),
      max_staleness_(job.sample().max_staleness()),
      eval_every_(HasHeldOutImages(job) ? job.eval().every_epochs() : -1),
      checkpoint_every_(job.checkpoint().every_epochs()),
      use_ema_(job.eval().use_ema()) {}

int64_t VersionSchedule::SamplingVersion(int64_t epoch) const {
  return std::max<int64_t>(0, epoch - max_staleness_);
}

std::pair<int64_t, int64_t> VersionSchedule::EpochsOf(int64_t version) const {
  const int64_t end = std::min(num_epochs_, version + max_staleness_ + 1);
  const int64_t begin = version == 0 ? 0 : version + max_staleness_;
  return {std::min(begin, end), end};
}

bool VersionSchedule::EvaluationDue(int64_t version) const {
  if (eval_every_ < 0) return false;
  return version == 0 || version == num_epochs_ || (eval_every_ > 0 && version % eval_every_ == 0);
}

bool VersionSchedule::IsPublished(int64_t version) const {
  const auto [begin, end] = EpochsOf(version);
  return begin < end || EvaluationDue(version);
}

bool VersionSchedule::CheckpointDue(int64_t epochs_trained) const {
  return epochs_trained == 1 || epochs_trained == num_epochs_ ||
         (checkpoint_every_ > 0 && epochs_trained % checkpoint_every_ == 0);
}

}  // namespace imageddpo
