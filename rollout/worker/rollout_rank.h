#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/lora/lora.h"
#include "common/trajectory/publish/weight_publisher.h"
#include "common/trajectory/record/trajectory_wire.h"
#include "common/trajectory/schedule/update_schedule.h"
#include "common/trajectory/schedule/version_schedule.h"
#include "common/worker/gang_timeouts.h"
#include "common/worker/job_context.h"
#include "rollout/worker/rollout.h"

namespace imageddpo {

/// The rollout side of a job on one rank: its share of every epoch, sent to the trainers. The
/// phases are called once per LoRA version in this order; a rank that also trains calls the
/// trainer's in between. Evaluation batches are dealt out by index: the i-th of R rollout ranks
/// takes those with index mod R == i; micro-batches as UpdateSchedule::SamplerOf says. All phases
/// throw CommError.
class RolloutRank {
 public:
  /// @param index  of this rank among the gang's rollout ranks. @param lora  used for sampling.
  RolloutRank(JobContext* context, const ResolvedJob& job, int index, Rollout* rollout,
              Denoiser* denoiser, Lora* lora);

  /// Tells the leader what data.path holds, and those who watch the job, from the first rollout
  /// rank, what was found beside the images. Once, first.
  void ReportData();

  /// Receives LoRA `version` from the leader, binds it and sends the receipt; before it, the moving
  /// average that the version's evaluation is of, where the job asks for that. Waits until the
  /// trainers have come to that version. Where sampling runs ahead, this rank forwards the next
  /// version to others while it samples.
  absl::Status TakeWeights(int64_t version);

  /// Evaluates this rank's share of the held-out images; results go to the leader.
  absl::Status EvaluateShare(int64_t version);

  /// Samples, scores and sends this rank's micro-batches; latents only to trainers that replay
  /// them. On ranks that do not train, waits for a trainer that has 4 unreceived records.
  absl::Status SampleShare(int64_t epoch, int64_t version, bool keep_pictures);

  /// Returns once everything sent has been taken in: the last call.
  void Flush();

 private:
  absl::Status Evaluate(int64_t version);  ///< With the LoRA that is bound.
  bool IsAnyPublishedAfter(int64_t version) const;
  void ReportProgress(const char* stage, int64_t epoch, int64_t done, int64_t total);
  bool reports_progress() const { return index_ == 0; }

  JobContext* context_;
  JobPlan plan_;
  int index_;
  int num_rollout_;
  int leader_;
  Rollout* rollout_;
  Denoiser* denoiser_;
  Lora* lora_;
  std::optional<Lora> average_;  ///< Of the version, where its evaluation is of the average.
  UpdateSchedule schedule_;
  VersionSchedule versions_;
  GangTimeouts timeouts_;
  WeightReceiver weights_;
  Followers scoring_;  ///< Of the wait for scores. A reward service has deadlines of its own.
  const char* scoring_stage_;  ///< Of samples: groups may be sampled again in that wait.
  std::vector<TrajectorySender> senders_;  ///< One per trainer.
  double wait_seconds_ = 0;                ///< Since the last record, waiting for weights and
                                           ///< trainers.
};

}  // namespace imageddpo
