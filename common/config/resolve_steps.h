#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"
#include "common/base/suggest.h"
#include "common/base/text.h"
#include "common/config/job_plan.h"
#include "imageddpo/v1/job.pb.h"

// The steps of ResolvedJob::Make(). Used inside common/config only.
namespace imageddpo {

/// Sets every setting that is not given to its default (defaults.cc lists them all).
void FillDefaults(v1::JobSpec* job);

/// @param job  defaults filled in.
/// @return INVALID_ARGUMENT where a count is out of range or a division leaves a remainder, naming
///         both settings and values that would do.
absl::StatusOr<JobPlan> MakeJobPlan(const v1::JobSpec& job);

/// Why a job cannot train with a single pass: it would not be exact (an update under other weights
/// than those that sampled), or the ranks that sample do not train. Empty if it can.
std::string WhyNoSinglePass(const v1::JobSpec& job, const JobPlan& plan);

/// Whether groups whose rewards are all equal are drawn again, by advantage.mode and zero_std. A
/// micro-batch then has whole groups.
bool ResamplesGroups(const v1::JobSpec& job);

/// Whether the job learns from target images, by train.objective.
bool IsSupervised(const v1::JobSpec& job);

/// Replaces `train.update: auto` by single_pass or replay, from the job's settings alone:
/// single_pass if the job names `topology: {colocated: C}` and it would be exact. Whether there is
/// memory for the gradients is CloseUpdate()'s question (common/plan/choose.h). Sets
/// plan->single_pass.
void ChooseUpdate(JobPlan* plan, v1::JobSpec* job);

/// What is wrong with a job; all of it is told at once.
class Faults {
 public:
  static constexpr int64_t kMaxCount =
      1'000'000;  ///< Of what is counted, where nothing else is said.

  void Add(std::string fault) { faults_.push_back(std::move(fault)); }
  void Add(const std::string& setting, const std::string& value, const std::string& must) {
    Add(absl::StrCat("`", setting, "` is ", Excerpt(value, kMaxShownBytes), "; it must be ", must));
  }

  void Range(const std::string& setting, int64_t value, int64_t min, int64_t max = kMaxCount) {
    if (value >= min && value <= max) return;
    Add(setting, absl::StrCat(value), absl::StrCat("a whole number from ", min, " to ", max));
  }

  /// @param is_allowed  false for what is out of range; NaN and infinity never are.
  void Real(const std::string& setting, double value, bool is_allowed, const std::string& must) {
    if (std::isfinite(value) && is_allowed) return;
    Add(setting, absl::StrCat(value), must);
  }

  void Choice(const std::string& setting, const std::string& value,
              const std::vector<std::string>& choices) {
    if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
    Add(setting, value.empty() ? "not given" : absl::StrCat("`", value, "`"),
        absl::StrCat(choices.size() > 1 ? "one of " : "", absl::StrJoin(choices, ", "),
                     DidYouMean(value, choices)));
  }

  void Required(const std::string& setting, const std::string& value, const std::string& what) {
    if (value.empty()) Add(absl::StrCat("`", setting, "` is not given; it must be ", what));
  }

  absl::Status ToStatus() const { return InvalidSettings(faults_); }

 private:
  static constexpr size_t kMaxShownBytes = 200;

  std::vector<std::string> faults_;
};

/// The parts of ValidateJob() on how the model learns. Defaults are filled in.
void CheckTrain(const v1::TrainSpec& train, Faults* faults);
void CheckObjective(const v1::JobSpec& job, Faults* faults);
void CheckTrainedSteps(const v1::JobSpec& job, Faults* faults);
void CheckAdvantage(const v1::JobSpec& job, Faults* faults);
void CheckGuards(const v1::JobSpec& job, Faults* faults);

/// Checks a job with defaults filled in, see ResolvedJob::Make().
/// @param plan  as MakeJobPlan() returned it, with the update chosen.
absl::Status ValidateJob(const v1::JobSpec& job, const absl::StatusOr<JobPlan>& plan);

/// See ResolvedJob::MicroBatchChoices().
std::vector<int64_t> MicroBatchChoices(const v1::JobSpec& job, int64_t most);

}  // namespace imageddpo
