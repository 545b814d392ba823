#include "common/config/resolved_job.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/resolve_steps.h"

namespace imageddpo {
namespace {

/// At most so many gradient shards had a job that was stored before their number was.
constexpr int64_t kShardsWhereNoneWereStored = 8;

// After ValidateJob(), as the next.
DataSettings Resolve(const v1::DataSpec& spec) {
  DataSettings data{.on_error = *FindChoice(kOnDataErrors, spec.on_error()),
                    .layout = *FindChoice(kDataLayouts, spec.layout()),
                    .size = {spec.resolution(), spec.resolution()},
                    .resize = *FindChoice(kResizes, spec.resize())};
  data.severity = static_cast<int>(spec.severity());
  if (spec.has_width()) data.size = {spec.width(), spec.height()};
  if (spec.has_corrupt()) {
    data.corrupt = {.kind = *FindChoice(kCorruptKinds, spec.corrupt().kind()),
                    .severity = static_cast<int>(spec.corrupt().severity()),
                    .seed = spec.corrupt().seed()};
  }
  return data;
}

StepSettings ResolveSteps(const v1::SampleSpec& sample, const v1::TrainSpec& train) {
  StepSettings steps;
  steps.executed =
      sample.num_steps() - FirstExecutedStep(sample.num_steps(), sample.noise_strength());
  steps.window_is_random = sample.has_sde_window();
  if (sample.has_sde_window() || train.has_step_window()) {
    const v1::StepWindowSpec& window =
        sample.has_sde_window() ? sample.sde_window() : train.step_window();
    steps.window = {.size = window.size(),
                    .start = window.start(),
                    .stride = window.stride(),
                    .every_epochs = window.every_epochs()};
  }
  const int64_t most = steps.window ? steps.window->size : steps.executed;
  const int64_t share = std::llround(train.step_fraction() * static_cast<double>(most));
  steps.trained = std::clamp<int64_t>(share, 1, most);
  return steps;
}

GuardsSettings Resolve(const v1::GuardsSpec& spec) {
  const auto resolve = [](const v1::GuardSpec& guard) {
    return GuardSettings{.policy = *FindChoice(kGuardPolicies, guard.policy()),
                         .threshold = guard.threshold()};
  };
  return {.non_finite = *FindChoice(kNonFinitePolicies, spec.non_finite()),
          .gradient_spike = resolve(spec.gradient_spike()),
          .reward_collapse = resolve(spec.reward_collapse()),
          .approx_kl = resolve(spec.approx_kl()),
          .kl_to_base = resolve(spec.kl_to_base()),
          .zero_spread = resolve(spec.zero_spread()),
          .image_statistics = resolve(spec.image_statistics()),
          .held_out = resolve(spec.held_out()),
          .max_rollbacks = spec.max_rollbacks(),
          .rollbacks = spec.rollbacks()};
}

// After ValidateJob(): type and measure are in the table.
// @param name  as RewardNames() has it.
RewardConfig Resolve(const v1::RewardSpec& spec, std::string name) {
  const RewardTypeInfo& type = *FindRewardType(spec.type());
  const RewardMeasureInfo* const measure = FindRewardMeasure(type, spec.measure());
  return {.type = type.type,
          .measure = measure != nullptr ? measure->measure : RewardMeasure::kNone,
          .name = std::move(name),
          .model = PathOf(spec.model()),
          .weight = spec.weight(),
          .offset = spec.offset(),
          .scale = spec.scale(),
          .clamp = spec.clamp(),
          .normalize = spec.normalize(),
          .warmup_epochs = spec.warmup_epochs(),
          .on_nan = *FindChoice(kOnNan, spec.on_nan()),
          .on_error = FindChoice(kOnRewardErrors, spec.on_error()).value_or(OnRewardError::kFail),
          .max_dropped = spec.max_dropped(),
          .held_out = spec.held_out(),
          .jpeg_quality = static_cast<int>(spec.jpeg_quality()),
          .reference =
              FindChoice(kRewardReferences, spec.reference()).value_or(RewardReference::kInput),
          .service = type.has_service ? ResolveRewardService(spec) : RewardServiceConfig()};
}

}  // namespace

absl::StatusOr<ResolvedJob> ResolvedJob::Make(v1::JobSpec submitted) {
  ResolvedJob job;
  job.submitted_ = std::move(submitted);
  job.spec_ = job.submitted_;
  FillDefaults(&job.spec_);
  absl::StatusOr<JobPlan> plan = MakeJobPlan(job.spec_);
  if (plan.ok()) ChooseUpdate(&*plan, &job.spec_);
  IMAGEDDPO_RETURN_IF_ERROR(ValidateJob(job.spec_, plan));

  job.plan_ = *std::move(plan);
  job.precision_ = *FindChoice(kPrecisions, job.spec_.model().precision());
  job.unsupported_modules_ =
      *FindChoice(kUnsupportedModules, job.spec_.lora().unsupported_modules());
  job.optimizer_ = *FindChoice(kOptimizers, job.spec_.train().optimizer());
  job.decay_target_ = *FindChoice(kDecayTargets, job.spec_.train().weight_decay_to());
  job.reduce_ = *FindChoice(kReduces, job.spec_.train().reduce());
  const v1::TrainSpec& train = job.spec_.train();
  job.objective_ = *FindChoice(kObjectives, train.objective());
  const auto clip = [&train](double side) { return side > 0 ? side : train.clip_range(); };
  job.clip_range_ = {.low = clip(train.clip_range_low()), .high = clip(train.clip_range_high())};
  const TrustRegion kind = *FindChoice(kTrustRegions, train.trust_region());
  job.trust_region_ = {.kind = kind,
                       .kl_limit = train.kl_limit(),
                       .kl_coef = train.kl_coef(),
                       .records_means = kind == TrustRegion::kKl && !job.plan_.single_pass,
                       .records_base_means = train.kl_coef() > 0};
  job.learning_rate_ = {.kind = *FindChoice(kLearningRates, train.lr_schedule()),
                        .peak = train.learning_rate(),
                        .warmup_updates = train.lr_warmup_updates(),
                        .total_updates = job.spec_.num_epochs() * train.num_inner_epochs() *
                                         job.plan_.updates_per_inner_epoch,
                        .min_ratio = train.lr_min_ratio()};
  job.guards_ = Resolve(job.spec_.guards());
  for (int64_t i = 0; i < job.guards_.rollbacks; ++i) {
    job.learning_rate_.peak *= job.spec_.guards().rollback_lr_factor();
  }
  const v1::AdvantageSpec& advantage = job.spec_.advantage();
  job.advantage_ = {.mode = *FindChoice(kAdvantageModes, advantage.mode()),
                    .stat_key = *FindChoice(kStatKeys, advantage.stat_key()),
                    .buffer_size = advantage.buffer_size(),
                    .min_count = advantage.min_count(),
                    .combine = *FindChoice(kCombinations, advantage.combine()),
                    .std_of = *FindChoice(kStdsOf, advantage.std_of()),
                    .leave_one_out = advantage.leave_one_out(),
                    .zero_std = *FindChoice(kZeroStds, advantage.zero_std()),
                    .max_resamples = advantage.max_resamples()};
  job.data_ = Resolve(job.spec_.data());
  std::vector<std::string> names = RewardNames(job.spec_);
  for (size_t i = 0; i < names.size(); ++i) {
    job.rewards_.push_back(Resolve(job.spec_.rewards(static_cast<int>(i)), std::move(names[i])));
  }
  const v1::CheckpointSpec& checkpoint = job.spec_.checkpoint();
  if (checkpoint.has_best()) {
    job.best_ = {.measure = checkpoint.best(),
                 .mode = *FindChoice(kBestModes, checkpoint.best_mode())};
  }
  job.steps_ = ResolveSteps(job.spec_.sample(), train);
  return job;
}

bool ResolvedJob::asks_a_service() const {
  return std::any_of(rewards_.begin(), rewards_.end(), [](const RewardConfig& reward) {
    return reward.type == RewardType::kService;
  });
}

int64_t ResolvedJob::base_steps() const {
  const bool is_rewarded =
      std::any_of(rewards_.begin(), rewards_.end(),
                  [](const RewardConfig& reward) { return reward.type == RewardType::kKlToBase; });
  if (is_rewarded) return steps_.random();
  return trust_region_.records_base_means ? steps_.trained : 0;
}

v1::SampleSpec ResolvedJob::eval_sample() const {
  v1::SampleSpec sample = spec_.sample();
  sample.set_num_steps(spec_.eval().num_steps());
  sample.set_noise_strength(spec_.eval().noise_strength());
  sample.set_guidance_scale(spec_.eval().guidance_scale());
  sample.set_eta(spec_.eval().eta());
  return sample;
}

absl::StatusOr<ResolvedJob> ResolvedJob::Reopen(v1::JobSpec stored) {
  if (!stored.data().has_layout()) {
    // Of the time when only the folder's own PNG and JPEG files were read.
    stored.mutable_data()->set_layout(WordOf(kDataLayouts, DataLayout::kFlat));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(ResolvedJob job, Make(std::move(stored)));
  if (job.submitted_.train().gradient_shards() != 0) return job;
  const int64_t shards = std::min(kShardsWhereNoneWereStored, job.plan_.micro_batches_per_update);
  return job.With([&](v1::JobSpec* spec) { spec->mutable_train()->set_gradient_shards(shards); });
}

absl::StatusOr<ResolvedJob> ResolvedJob::With(
    const std::function<void(v1::JobSpec*)>& change) const {
  v1::JobSpec changed = submitted_;
  change(&changed);
  return Make(std::move(changed));
}

absl::StatusOr<ResolvedJob> ResolvedJob::WithMicroBatch(int64_t samples) const {
  IMAGEDDPO_ASSIGN_OR_RETURN(ResolvedJob job, With([&](v1::JobSpec* spec) {
                               spec->mutable_device()->set_device_batch_size(samples);
                             }));
  return job.With([&](v1::JobSpec* spec) {
    spec->mutable_eval()->set_batch_size(job.spec().eval().batch_size());
    spec->mutable_train()->set_gradient_shards(job.plan().gradient_shards);
  });
}

std::vector<int64_t> ResolvedJob::MicroBatchChoices(int64_t most) const {
  return imageddpo::MicroBatchChoices(spec_, most);
}

}  // namespace imageddpo
