#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "common/config/resolved_job.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// The entries of a job's `guards`. docs/guards.md has the rule of each.
enum class Guard {
  kNonFinite,
  kGradientSpike,
  kRewardCollapse,
  kApproxKl,
  kKlToBase,
  kZeroSpread,
  kImageStatistics,
  kHeldOut
};

/// As in job files: "reward_collapse".
std::string GuardName(Guard guard);

/// A guard has seen what it looks for.
struct Firing {
  Guard guard = Guard::kNonFinite;
  int64_t epoch = 0;  ///< From 0.
  double value = 0, limit = 0;
  /// The newest state from before what was seen: after so many epochs.
  int64_t good_epochs = 0;
  std::string what;          ///< What was seen, with its numbers; no full stop.
  bool cannot_skip = false;  ///< Where the policy is kSkip: the job fails instead.
};

/// What becomes of the job: the guard's policy; kPause for a rollback once guards.max_rollbacks is
/// used up, and kFail for a skip that is not possible.
GuardPolicy ActionFor(const Firing& firing, const GuardsSettings& settings);

/// What was seen and what becomes of the job, for people.
std::string MessageOf(const Firing& firing, const GuardsSettings& settings);

/// For the controller: the event, the metric and the warning.
v1::WorkerMessage ReportOf(const Firing& firing, const GuardsSettings& settings,
                           const std::string& job_id);

/// OK where the job goes on; otherwise the error that ends its gang, marked with PausesJob() or
/// RollsBack() where the policy says so.
absl::Status ActionStatus(const Firing& firing, const GuardsSettings& settings);

}  // namespace imageddpo
