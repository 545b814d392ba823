#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/reward_types.h"
#include "rollout/data/dataset.h"

// Shapes: B samples, C = 3 channels, H rows, W columns.
namespace imageddpo {

/// Generated images to score, and what they were made from. Plain data that refers to nothing
/// outside of itself, so it may outlive the call, cross a thread or be sent to another process.
/// Whoever has seen it in a Start() must not change its tensors any more. Everything has length B
/// and the same order.
struct RewardBatch {
  at::Tensor generated_BCHW;  ///< [B,3,H,W] float32 in [0,1], any device
  at::Tensor inputs_BCHW;     ///< [B,3,H,W] float32 in [0,1]: what img2img started from
  at::Tensor targets_BCHW;    ///< as the inputs: the targets; undefined where none wants them
  /// [B] float64 on the CPU: divergence of each sample's steps from the base model's, in nats
  /// (SampledTrajectories::kl_to_base_B); undefined where none wants it
  at::Tensor kl_to_base_B;
  std::vector<std::string> prompts;  ///< as used, UTF-8
  std::vector<Example> examples;     ///< id, label and metadata of the input images

  int64_t size() const { return static_cast<int64_t>(examples.size()); }  ///< B
};

/// The scores of a batch, in the order of its images.
struct RewardOutput {
  /// B; for each item its measure or, of a sum, its value; or why it has none. NaN and infinity
  /// count as errors.
  std::vector<absl::StatusOr<double>> values_B;
  /// name → B numbers: "correct", "logit", "bytes", …; they only appear in metrics. Those of an
  /// item without a value mean nothing.
  std::map<std::string, std::vector<double>> parts;
  /// Of a sum: by the name of a term that drops items, why the first of those has no value.
  std::map<std::string, std::string> why_dropped;
};

using RewardDeadline = std::chrono::steady_clock::time_point;

/// A batch that is being scored. Called by the thread that called Start(). The destructor gives the
/// batch up without waiting for it.
class PendingReward {
 public:
  virtual ~PendingReward() = default;

  /// Blocks until the batch is scored. An error concerns the whole batch and names what is wrong
  /// with it; after one, only DEADLINE_EXCEEDED (not scored by `deadline`) allows another call.
  virtual absl::StatusOr<RewardOutput> Wait(RewardDeadline deadline) = 0;
};

/// What a reward looks at beside the generated and the input images, which are always there.
struct RewardNeeds {
  bool targets = false;     ///< RewardBatch::targets_BCHW
  bool kl_to_base = false;  ///< RewardBatch::kl_to_base_B; costs a pass of the model for each step
};

/// One term of a job's reward. Several batches may be pending at once; each is waited for in the
/// order of the samples, so that when a reward finishes cannot change any result.
/// Thread-compatible: calls on one object and its pending batches are serialised by the caller.
class Reward {
 public:
  virtual ~Reward() = default;  ///< Outlives its pending batches.

  virtual std::string name() const = 0;  ///< "classifier", "jpeg": [a-z0-9_]+

  virtual RewardNeeds wants() const { return {}; }

  /// Starts to score a batch and returns without waiting for other processes or a GPU. Scores are a
  /// deterministic function of the batch alone. Errors are reported by Wait().
  /// @param batch  well-formed (CheckBatch()).
  virtual std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) = 0;

  /// Called once at the start of a job, so that a dataset that cannot be scored is refused there
  /// and not hours later: every example has the label the reward needs, and images of width ×
  /// height are accepted. Names the first example that does not fit.
  virtual absl::Status CheckDataset(const Dataset& dataset, int width, int height) = 0;
};

/// INVALID_ARGUMENT when shapes or lengths do not fit each other.
absl::Status CheckBatch(const RewardBatch& batch);

/// INVALID_ARGUMENT naming the first example without a target.
absl::Status CheckTargets(const Dataset& dataset);

/// A pending batch that `compute` scores in Wait(), in the caller's thread and whatever the
/// deadline. For rewards that compute in this process: on the CPU in `compute`; on a GPU Start()
/// queues the kernels and `compute` fetches their results, so that a caller can queue the next
/// micro-batch in between.
std::unique_ptr<PendingReward> ComputeInWait(std::function<absl::StatusOr<RewardOutput>()> compute);

/// How long a batch may take to be scored. Rewards that compute in this process do not stop at it.
inline constexpr std::chrono::minutes kRewardTimeout{30};

/// Start() and Wait() in one, `timeout` from now.
absl::StatusOr<RewardOutput> Score(Reward* reward, std::shared_ptr<const RewardBatch> batch,
                                   std::chrono::milliseconds timeout = kRewardTimeout);

}  // namespace imageddpo
