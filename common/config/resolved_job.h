#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/picture_size.h"
#include "common/config/choices.h"
#include "common/config/job_plan.h"
#include "common/config/reward_types.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A job's `advantage`, judged.
struct AdvantageSettings {
  AdvantageMode mode = AdvantageMode::kGlobal;
  StatKey stat_key = StatKey::kImage;  ///< Of kPerKey, as the two below.
  int64_t buffer_size = 16;            ///< Rewards remembered per key, at least 1.
  int64_t min_count = 16;              ///< With fewer, the epoch's statistics are used; at least 1.
  Combination combine = Combination::kSum;
  StdOf std_of = StdOf::kGroup;  ///< Of kGroup, as the two below.
  bool leave_one_out = false;
  ZeroStd zero_std = ZeroStd::kKeep;
  int64_t max_resamples = 2;  ///< Of kResample.

  /// Whether groups whose rewards are all equal are drawn again.
  bool resamples() const { return mode == AdvantageMode::kGroup && zero_std == ZeroStd::kResample; }
};

/// The learning rate over a job's updates, judged.
struct LearningRateSettings {
  LearningRateKind kind = LearningRateKind::kConstant;
  double peak = 3e-4;
  int64_t warmup_updates = 0;
  int64_t total_updates = 1;  ///< Of the job, over all epochs.
  double min_ratio = 0;       ///< Of kCosine: where it ends, in units of `peak`.
};

/// The ratios that PPO leaves alone: 1 - low to 1 + high.
struct ClipRange {
  double low = 1e-4, high = 1e-4;
};

/// How far an update may move the policy, and what keeps it near the base model, judged.
struct TrustRegionSettings {
  TrustRegion kind = TrustRegion::kRatio;
  double kl_limit = 0.1;  ///< Of kKl: of a step, in nats.
  double kl_coef = 0;     ///< Factor of the divergence from the base model in the loss; 0: none.
  /// What the records of a replay have beside the latents: TrajectoryBatch::means and base_means.
  bool records_means = false, records_base_means = false;
};

/// Executed steps that follow each other, judged: see StepWindowSpec.
struct StepWindow {
  int64_t size = 1, start = 0;
  int64_t stride = 0;  ///< 0: it stays.
  int64_t every_epochs = 1;
};

/// Which of a trajectory's steps are trained, judged. StepSchedule says which of an epoch.
struct StepSettings {
  int64_t executed = 0;              ///< K: for sample.num_steps and sample.noise_strength.
  int64_t trained = 0;               ///< In each epoch.
  std::optional<StepWindow> window;  ///< Of those that are trained; not set: of all.
  bool window_is_random = false;     ///< sample.sde_window: no other step draws noise.

  /// Steps that draw noise.
  int64_t random() const { return window_is_random ? window->size : executed; }
};

/// One entry of a job's `guards`, judged.
struct GuardSettings {
  GuardPolicy policy = GuardPolicy::kWarn;
  double threshold = 0;  ///< Its meaning depends on the guard: docs/guards.md.
};

/// A job's `guards`, judged.
struct GuardsSettings {
  GuardPolicy non_finite = GuardPolicy::kFail;
  GuardSettings gradient_spike, reward_collapse, approx_kl, kl_to_base, zero_spread,
      image_statistics, held_out;
  int64_t max_rollbacks = 2;
  int64_t rollbacks = 0;  ///< So far. It is part of the keys of the job's noise.
};

/// A job's `data.corrupt`, judged.
struct CorruptSettings {
  CorruptKind kind = CorruptKind::kGaussianNoise;
  int severity = 1;  ///< 1 to 5.
  uint64_t seed = 0;
};

/// A job's `checkpoint.best`, judged.
struct BestSettings {
  std::string measure;  ///< A number of the evaluations, as "classifier.correct".
  BestMode mode = BestMode::kMax;
};

/// How a job's `data` is read, judged.
struct DataSettings {
  OnDataError on_error = OnDataError::kFail;
  DataLayout layout = DataLayout::kAuto;
  PictureSize size;  ///< Not given: the model's own.
  ResizeMode resize = ResizeMode::kCrop;
  std::optional<CorruptSettings> corrupt;
  int severity = 0;  ///< Of a .npy with five: the one that is used; 0: all.
};

/// A job whose settings were all judged, once: defaults filled in, ranges and choices checked,
/// words turned into enums, `auto` resolved where the settings alone decide, batches divided.
/// Client, service, workers and tools read it and check nothing again. What only the service can
/// decide stays open until it does: the micro-batch (by memory), threads and topology (by the
/// pool). A value type; a job with other settings is another ResolvedJob, see With().
class ResolvedJob {
 public:
  /// Judges a job as its author wrote it, as far as that is possible without opening files.
  /// @return INVALID_ARGUMENT naming for each fault the setting, its value, what is allowed and the
  ///         remedy; all faults at once, one per line.
  static absl::StatusOr<ResolvedJob> Make(v1::JobSpec submitted);

  /// Judges a job as the service stored it, from this version or an earlier one, so that it keeps
  /// its meaning: defaults are those of the time when it was submitted.
  static absl::StatusOr<ResolvedJob> Reopen(v1::JobSpec stored);

  /// The job with something changed, judged again.
  absl::StatusOr<ResolvedJob> With(const std::function<void(v1::JobSpec*)>& change) const;

  /// The job with this micro-batch. Where eval.batch_size was not given either, it becomes the
  /// same; train.gradient_shards becomes the number that results.
  absl::StatusOr<ResolvedJob> WithMicroBatch(int64_t samples) const;

  /// Every setting, defaults filled in. An open micro-batch has the size that memory would have to
  /// make smaller.
  const v1::JobSpec& spec() const { return spec_; }
  /// The settings as they were given: an open one is not set.
  const v1::JobSpec& submitted() const { return submitted_; }
  const JobPlan& plan() const { return plan_; }

  Precision precision() const { return precision_; }
  UnsupportedModules unsupported_modules() const { return unsupported_modules_; }
  OptimizerKind optimizer() const { return optimizer_; }
  DecayTarget decay_target() const { return decay_target_; }
  ReduceKind reduce() const { return reduce_; }
  Objective objective() const { return objective_; }
  const AdvantageSettings& advantage() const { return advantage_; }
  const ClipRange& clip_range() const { return clip_range_; }
  const TrustRegionSettings& trust_region() const { return trust_region_; }
  /// For so many steps of a trajectory, sampling runs the model a second time, without its LoRA.
  int64_t base_steps() const;
  /// Whether a reward comes from a service, which may be away for long and has deadlines of its
  /// own.
  bool asks_a_service() const;
  const StepSettings& steps() const { return steps_; }
  const LearningRateSettings& learning_rate() const { return learning_rate_; }
  const GuardsSettings& guards() const { return guards_; }
  const DataSettings& data() const { return data_; }
  const std::vector<RewardConfig>& rewards() const { return rewards_; }
  /// Not set: the LoRA of the best evaluation is not kept.
  const std::optional<BestSettings>& best() const { return best_; }
  /// Whether the job has epochs; without, it is one evaluation.
  bool trains() const { return spec_.num_epochs() > 0; }
  /// K: the denoising steps that are run for sample.num_steps and sample.noise_strength.
  int64_t executed_steps() const { return steps_.executed; }
  /// How the held-out images of `eval` are sampled: `sample` with what `eval` has of its own.
  v1::SampleSpec eval_sample() const;
  /// With guidance, the model is also called with the prompt; without, with the negative one alone.
  bool uses_prompt() const { return spec_.sample().guidance_scale() > 1; }

  bool micro_batch_is_open() const { return submitted_.device().device_batch_size() == 0; }
  /// The micro-batches that are possible, largest first: the common divisors of sample.batch_size
  /// and train.batch_size up to `most`. If none is above half of `most` (for example of 37), the
  /// next larger divisor comes before them. Never empty.
  std::vector<int64_t> MicroBatchChoices(int64_t most) const;

  /// Settings that are valid but questionable, e.g. a prompt that is never used. For people.
  std::vector<std::string> Warnings() const;

  /// What only the images tell: that with `advantage.mode: per_key` no key gets
  /// `advantage.min_count` rewards within the job. For people.
  /// @param num_images    of data.path.
  /// @param most_of_a_key images of the key that has most of them.
  /// @return empty where a key gets enough, and where Warnings() has said already that none can.
  std::string WarningOfKeys(int64_t num_images, int64_t most_of_a_key) const;

 private:
  ResolvedJob() = default;

  v1::JobSpec submitted_, spec_;
  JobPlan plan_;
  Precision precision_ = Precision::kFp32;
  UnsupportedModules unsupported_modules_ = UnsupportedModules::kRefuse;
  OptimizerKind optimizer_ = OptimizerKind::kAdamW;
  DecayTarget decay_target_ = DecayTarget::kZero;
  ReduceKind reduce_ = ReduceKind::kExact;
  Objective objective_ = Objective::kDdpo;
  AdvantageSettings advantage_;
  ClipRange clip_range_;
  TrustRegionSettings trust_region_;
  LearningRateSettings learning_rate_;
  GuardsSettings guards_;
  DataSettings data_;
  std::vector<RewardConfig> rewards_;
  std::optional<BestSettings> best_;
  StepSettings steps_;
};

}  // namespace imageddpo
