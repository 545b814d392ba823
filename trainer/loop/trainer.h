#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/diffusion/policy.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/trajectory.h"
#include "common/trajectory/schedule/update_schedule.h"
#include "common/trajectory/schedule/version_schedule.h"
#include "common/worker/work_item.h"
#include "imageddpo/v1/job.pb.h"
#include "imageddpo/v1/metrics.pb.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/advantage_rule.h"
#include "trainer/algo/loss_rule.h"
#include "trainer/algo/loss_scaler.h"
#include "trainer/algo/reward_combination.h"
#include "trainer/algo/weight_average.h"
#include "trainer/guards/update_guards.h"
#include "trainer/loop/epoch_rewards.h"
#include "trainer/loop/replay_update.h"
#include "trainer/loop/shard_exchange.h"
#include "trainer/loop/single_pass_update.h"
#include "trainer/loop/update_numbers.h"

namespace imageddpo {

/// The state of a trainer that outlives an epoch, besides the LoRA, the optimizer, the two rules
/// and the reward combination.
struct TrainerState {
  int64_t epochs_trained = 0;
  int64_t updates = 0;
  int64_t samples_seen = 0;
  double ratio_first_step_max_error = 0;  ///< Largest so far.
  /// Flat values [P], by version, of the LoRA versions with which the next epochs are sampled: the
  /// last k, with k = sample.max_staleness; after a resume the newest too.
  std::map<int64_t, at::Tensor> older_versions;
  LossScaler loss_scaler;
  UpdateGuards guards;
  std::optional<WeightAverage> average;  ///< Where train.ema_decay is above 0.

  explicit TrainerState(const ResolvedJob& job)
      : loss_scaler(job.precision() == Precision::kFp16),
        guards(job.guards(), job.spec().train().max_grad_zscore()) {}
};

/// One trainer rank: turns an epoch's trajectories into updates of the LoRA. All trainer ranks make
/// the same calls in the same order. Each computes the gradient shards it owns, and all take the
/// same optimizer step. Thread-compatible.
class Trainer {
 public:
  /// @param lora       bound to the policy's denoiser, updated in place.
  /// @param advantages, loss  the job's rules: of MakeAdvantageRule() and MakeLossRule().
  /// @param exchange   the other trainer ranks.
  /// @param gradients  if the plan is single_pass: filled by the rollout of this rank.
  Trainer(const ResolvedJob& job, const Policy& policy, Lora* lora,
          std::unique_ptr<AdvantageRule> advantages, std::unique_ptr<LossRule> loss,
          ShardExchange* exchange, SampleGradients* gradients = nullptr);

  /// Who is told from now on what this rank computes; nobody, as from the start. They must outlive
  /// the trainer.
  void Follow(const Followers& followers) { followers_ = followers; }

  /// Called between micro-batches; any status but OK ends the epoch.
  using Between = std::function<absl::Status()>;

  /// Trains on all micro-batches of one epoch, in order of index. Those that this rank does not
  /// replay (see UpdateSchedule) come without latents. Samples of an older version than `epoch` are
  /// trained with the decoupled loss. In fp16, an update whose gradient is not finite is skipped as
  /// long as a smaller loss scale is possible; so is one that UpdateGuards does not accept, where
  /// the job goes on without it. What they say may also end the epoch.
  /// @return one entry per update. INTERNAL: an embedding is missing, or a record was sampled by
  ///         another version than the epoch's; OUT_OF_RANGE: a reward or the gradient is not
  ///         finite, with the remedy.
  /// @throws CommError  of the exchange with the other trainer ranks.
  absl::StatusOr<std::vector<v1::EpochMetrics>> TrainEpoch(
      int64_t epoch, const std::vector<TrajectoryBatch>& batches, const Between& between);

  /// What the guards of updates saw since the last call, also where TrainEpoch() returned an error.
  std::vector<Firing> TakeFirings() { return state_.guards.TakeFirings(); }

  const ResolvedJob& job() const { return job_; }
  /// Says, among other things, which micro-batches this rank needs with latents.
  const UpdateSchedule& schedule() const { return schedule_; }
  const VersionSchedule& versions() const { return versions_; }
  const TrainerState& state() const { return state_; }

  /// A copy of the LoRA after `version` epochs: the current one, or one of
  /// TrainerState::older_versions.
  Lora LoraOf(int64_t version) const;
  /// Its Lora::Hash(). That of the newest version is known since the end of its epoch.
  std::string HashOf(int64_t version) const;
  /// The moving average of the LoRA as it is now. Only where TrainerState::average is.
  Lora AverageLora() const;

  /// Files of a checkpoint, on the host; later epochs do not change them: optimizer.safetensors and
  /// state.json (see docs/formats.md).
  std::map<std::string, at::Tensor> OptimizerTensors() const;
  nlohmann::ordered_json StateJson() const;
  /// Restores what the two above returned. INVALID_ARGUMENT names what does not fit.
  absl::Status Restore(const std::map<std::string, at::Tensor>& optimizer,
                       const nlohmann::json& state);

 private:
  absl::StatusOr<std::vector<double>> Advantages(const EpochRewards& epoch);
  /// The advantages of all samples. Sets is_kept_ and what the epoch's rows say of its rewards.
  absl::StatusOr<std::vector<double>> JudgeRewards(int64_t epoch,
                                                   const std::vector<TrajectoryBatch>& batches,
                                                   v1::EpochMetrics* metrics);
  absl::StatusOr<v1::EpochMetrics> Update(int64_t epoch, int64_t inner_epoch,
                                          int64_t update_in_epoch,
                                          const std::vector<TrajectoryBatch>& batches,
                                          const std::vector<double>& advantages,
                                          const Between& between);
  /// Called before an epoch's first update: fills proximal_ if the samples are stale, else clears
  /// it.
  absl::Status ComputeProximal(int64_t epoch, const std::vector<TrajectoryBatch>& batches,
                               const std::vector<double>& advantages, const Between& between);
  /// Share of an update's samples that are kept. The others have the advantage 0: they contribute 0
  /// to the loss but are still counted in a micro-batch's mean. 1 where none is kept.
  double KeptShare(const std::vector<TrajectoryBatch>& batches,
                   const std::vector<int64_t>& micro_batches) const;
  at::Tensor KeptOf(const TrajectoryBatch& batch) const;  ///< [B] bool.
  void KeepVersion(int64_t version);
  /// Passes the scale of the next update to the code that runs backward passes.
  void UseLossScale();
  /// Takes the older versions out of a checkpoint's tensors.
  absl::Status RestoreVersions(std::map<std::string, at::Tensor>* tensors);
  /// Takes the average and the initial LoRA out of them; without one it is the LoRA as it is.
  absl::Status RestoreAverage(std::map<std::string, at::Tensor>* tensors);
  absl::Status RestoreInitial(std::map<std::string, at::Tensor>* tensors);
  /// Adds one micro-batch to the gradient of the current update and returns the statistics of each
  /// step, not read yet: [K,kNumbersPerStep].
  absl::StatusOr<at::Tensor> Accumulate(const TrajectoryBatch& batch,
                                        const std::vector<double>& advantages, double weight,
                                        int64_t age, bool first_update);
  absl::StatusOr<ReplayBatch> MakeReplayBatch(const TrajectoryBatch& batch,
                                              const std::vector<double>& advantages) const;

  const ResolvedJob job_;
  const JobPlan plan_;
  Lora* lora_;
  RewardCombination combination_;
  std::unique_ptr<AdvantageRule> advantage_rule_;
  std::unique_ptr<LossRule> loss_rule_;
  ShardExchange* exchange_;
  SampleGradients* gradients_;
  UpdateSchedule schedule_;
  VersionSchedule versions_;
  AdamW optimizer_;
  std::optional<Lora> initial_;  ///< Where train.weight_decay_to is initial.
  ReplayUpdate replay_;
  SinglePassUpdate single_pass_;  ///< Instead of replay_ where plan_.single_pass.
  UpdateNorms norms_;
  Followers followers_;
  TrainerState state_;
  /// The hash of a version; -1: of none.
  struct Hashed {
    int64_t version = -1;
    std::string hash;
  };
  Hashed hashed_;
  std::vector<bool> is_kept_;               ///< By sample, of the epoch under way.
  std::map<int64_t, at::Tensor> proximal_;  ///< [B,K] by micro-batch, of the epoch under way.
  /// [L,D] by hash, on the LoRA's device: those of the epoch under way, which its records bring.
  std::map<uint64_t, at::Tensor> embeddings_;
};

}  // namespace imageddpo
