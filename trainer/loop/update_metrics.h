#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace imageddpo {

/// How old the samples of an update were, and the policy ratios over its samples and steps.
struct StalenessMetrics {
  int64_t sample_age = 0;           ///< LoRA versions between sampling and the epoch's start.
  double behaviour_ratio_mean = 1;  ///< Policy at the epoch's start over the one that sampled.
  double behaviour_ratio_std = 0;   ///< Population's.
  double proximal_ratio_mean = 1;   ///< Policy before the update over the one at the epoch's start.
  double proximal_ratio_std = 0;

  /// @param means  [4] float64: means of StepStatistics' last four fields, in their order.
  static StalenessMetrics Make(int64_t sample_age, const at::Tensor& means);
};

/// The loss scale of an update in fp16; see LossScaler.
struct LossScalingMetrics {
  double scale = 1;             ///< Of the next update.
  bool skipped = false;         ///< This one overflowed: no step, and a grad_norm of 0.
  int64_t skipped_updates = 0;  ///< Of the job so far.
};

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
  double grad_norm = 0;                            ///< Before clipping.
  double ratio_first_step_max_error = 0;           ///< Of the epoch's first update.
  std::map<std::string, double> parts_mean;        ///< Means of the reward's parts over the epoch.
  std::optional<StalenessMetrics> staleness;       ///< Where the job's max_staleness is above 0.
  std::optional<LossScalingMetrics> loss_scaling;  ///< Where model.precision is fp16.

  nlohmann::ordered_json ToJson() const;
};

}  // namespace imageddpo
