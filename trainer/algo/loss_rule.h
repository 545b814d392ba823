#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/status.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// One timestep of one micro-batch of B samples, as a loss sees it. float32 [B] on one device. Up
/// to four policies take part:
///
///   current    the policy that is being trained
///   recorded   the policy that drew the samples
///   proximal   the policy at the start of the epoch's training
///   base       the model without its LoRA, which the current policy is to stay near
struct LossInputs {
  at::Tensor log_prob_B;           ///< Of the current policy, with graph.
  at::Tensor recorded_log_prob_B;  ///< As the rollout recorded it.
  /// Undefined for fresh samples, whose recorded policy is the proximal one. No graph.
  at::Tensor proximal_log_prob_B;
  /// Divergences of the step in nats, as GaussianKl(): of the current policy and the recorded one,
  /// without a graph; undefined unless the records have the recorded means.
  at::Tensor kl_to_recorded_B;
  /// The same of the current policy and the base, with graph; undefined without the base's means.
  at::Tensor kl_to_base_B;
  at::Tensor is_kept_B;     ///< bool: false for samples that are left out. Undefined: all are kept.
  at::Tensor advantages_B;  ///< As the AdvantageRule gave them, not clamped.
  int64_t age = 0;          ///< Epochs of training between recorded and proximal policy.

  bool is_stale() const { return proximal_log_prob_B.defined(); }
};

/// A loss with the statistics of its timestep, which have no graph.
struct LossResult {
  at::Tensor loss;       ///< 0-d float32 with graph: mean over the B samples.
  at::Tensor approx_kl;  ///< 0-d float32: mean of (log_prob - proximal)²/2.
  at::Tensor clipfrac;   ///< 0-d float32: share of samples whose ratio is beyond the rule's clip.
  at::Tensor ratio_B;    ///< float32: exp(log_prob - proximal).
  /// float32: exp(proximal - recorded); undefined for fresh samples.
  at::Tensor behaviour_ratio_B;
  /// 0-d float32: what of clipfrac is above and below; undefined where the rule does not say.
  at::Tensor clipped_high, clipped_low;
  /// 0-d float32: share of samples that a divergence limit has kept from a gradient; undefined
  /// where the rule has none.
  at::Tensor masked;
};

/// The loss of fresh samples under the policy that drew them, where every ratio is 1. For the
/// single pass, which has gradients of log-probabilities and no replay.
struct OnPolicyLoss {
  double loss = 0;  ///< Mean over the B samples.
  /// For each sample, the derivative of its own loss (before the mean) by its log-probability.
  std::vector<double> derivative_B;
};

/// Means over an update's samples and steps, the same on every trainer rank; that of the loss is
/// over the kept samples alone (`on_nan: drop`).
struct UpdateMeans {
  double loss = 0, approx_kl = 0, clipfrac = 0;
};

/// The loss that an update descends. Each trainer rank computes it for the micro-batches that it
/// owns, so its functions may depend only on their arguments, the rule's settings and its state;
/// the state changes in EndUpdate() only, which gets the same means on every rank.
/// Thread-compatible.
class LossRule {
 public:
  virtual ~LossRule() = default;

  /// The loss of an update is the mean over its N samples × K steps: multiply the result by
  /// B/(N·K) before the backward pass.
  /// @throws std::invalid_argument  lengths differ, or the age is negative.
  virtual LossResult Loss(const LossInputs& inputs) const = 0;

  /// What Loss() gives, and its derivative, for fresh samples at ratio 1.
  /// @param advantages_B  float32, not clamped.
  virtual OnPolicyLoss LossAtSampling(const at::Tensor& advantages_B) const = 0;

  /// Called after every update that took its step.
  virtual void EndUpdate(const UpdateMeans& /*means*/) {}

  /// What outlives an update, as `loss` in a checkpoint's state.json; null: nothing does.
  virtual nlohmann::json State() const { return nullptr; }
  /// Restores what State() returned, null included. A rule without a state takes anything.
  /// @return INVALID_ARGUMENT where it does not fit; then nothing has changed.
  virtual absl::Status Restore(const nlohmann::json& /*state*/) { return absl::OkStatus(); }
};

/// The rule of a job's training.
std::unique_ptr<LossRule> MakeLossRule(const ResolvedJob& job);

}  // namespace imageddpo
