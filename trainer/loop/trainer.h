#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config/job_plan.h"
#include "common/diffusion/lora.h"
#include "common/diffusion/policy.h"
#include "common/trajectory/trajectory.h"
#include "common/trajectory/update_schedule.h"
#include "imageddpo/v1/job.pb.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/advantages.h"
#include "trainer/loop/shard_exchange.h"
#include "trainer/loop/single_pass.h"
#include "trainer/loop/update.h"

namespace imageddpo {

/// One update, as a row of metrics.jsonl. A function of the job alone: no times, no ranks.
struct UpdateMetrics {
  int64_t epoch = 0;
  int64_t inner_epoch = 0;
  int64_t update = 0;        ///< Counted over the whole job.
  int64_t samples_seen = 0;  ///< Sampled up to and with this epoch.
  double reward_mean = 0;    ///< Of the epoch.
  double reward_std = 0;     ///< Population's.
  double loss = 0;  ///< Mean over the update's micro-batches and timesteps, as the two below.
  double approx_kl = 0;
  double clipfrac = 0;
  double grad_norm = 0;                      ///< Before clipping.
  double ratio_first_step_max_error = 0;     ///< Of the epoch's first update.
  std::map<std::string, double> parts_mean;  ///< Means of the reward's parts over the epoch.

  nlohmann::ordered_json ToJson() const;
};

/// Everything of a trainer that outlives an epoch, besides the LoRA and the optimizer.
struct TrainerState {
  int64_t epochs_trained = 0;
  int64_t updates = 0;
  int64_t samples_seen = 0;
  double ratio_first_step_max_error = 0;  ///< Largest so far.
  KeyedStatistics statistics;

  explicit TrainerState(const KeyedStatistics::Options& options) : statistics(options) {}
};

/// One trainer rank: turns an epoch's trajectories into updates of the LoRA. Trainer ranks run the
/// same calls in the same order; each replays the gradient shards it owns, and all take the same
/// step. Thread-compatible.
class Trainer {
 public:
  /// @param job       complete settings. @param lora  bound to the policy's UNet, updated in place.
  /// @param exchange  the other trainer ranks.
  /// @param gradients what the rollout of this rank collects, where plan.single_pass.
  Trainer(const v1::JobSpec& job, const JobPlan& plan, const Policy& policy, Lora* lora,
          ShardExchange* exchange, SampleGradients* gradients = nullptr);

  /// Trains on one epoch's micro-batches, in order of index and all of them; those whose latents
  /// this rank does not own (see UpdateSchedule) come without.
  /// @return one entry per update. INTERNAL: an embedding is missing; OUT_OF_RANGE: a reward or the
  ///         gradient is not finite, with the remedy.
  absl::StatusOr<std::vector<UpdateMetrics>> TrainEpoch(
      int64_t epoch, const std::vector<TrajectoryBatch>& batches);

  /// Which micro-batches this rank must have whole in `epoch`.
  const UpdateSchedule& schedule() const { return schedule_; }
  const TrainerState& state() const { return state_; }

  /// Files of a checkpoint: optimizer.safetensors and state.json (see docs/formats.md).
  std::map<std::string, at::Tensor> OptimizerState() const { return optimizer_.State(); }
  nlohmann::ordered_json StateJson() const;
  /// Takes over what the two above gave. INVALID_ARGUMENT names what does not fit.
  absl::Status Restore(const std::map<std::string, at::Tensor>& optimizer,
                       const nlohmann::json& state);

 private:
  absl::StatusOr<std::vector<double>> Advantages(const std::vector<TrajectoryBatch>& batches,
                                                 const std::vector<double>& rewards);
  absl::StatusOr<UpdateMetrics> Update(int64_t epoch, int64_t inner_epoch, int64_t update_in_epoch,
                                       const std::vector<TrajectoryBatch>& batches,
                                       const std::vector<double>& advantages);
  /// One micro-batch's share of the gradient under way, and what it says of each step.
  absl::StatusOr<std::vector<StepStatistics>> Accumulate(const TrajectoryBatch& batch,
                                                         const std::vector<double>& advantages,
                                                         double weight);
  absl::StatusOr<ReplayBatch> MakeReplayBatch(const TrajectoryBatch& batch,
                                              const std::vector<double>& advantages) const;

  const v1::JobSpec job_;
  const JobPlan plan_;
  Lora* lora_;
  ShardExchange* exchange_;
  UpdateSchedule schedule_;
  AdamW optimizer_;
  ReplayUpdate replay_;
  SinglePassUpdate single_pass_;  ///< Instead of replay_ where plan_.single_pass.
  TrainerState state_;
  std::map<uint64_t, at::Tensor> embeddings_;  ///< [L,D] by hash, on the LoRA's device.
};

}  // namespace imageddpo
