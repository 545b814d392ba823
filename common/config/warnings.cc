#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/config/resolved_job.h"

namespace imageddpo {
namespace {

/// The steps that diffusers' img2img pipelines run for a strength: min(int(num_steps · strength),
/// num_steps), in double.
int64_t StepsInDiffusers(int64_t num_steps, double strength) {
  return std::min(static_cast<int64_t>(static_cast<double>(num_steps) * strength), num_steps);
}

/// Where diffusers would run another number of steps than the job, which keeps the arithmetic of
/// the original trainer: what to pass to a pipeline to see what the job trains. Else empty.
std::string OtherStepsInDiffusers(const v1::SampleSpec& sample, int64_t executed) {
  const int64_t num_steps = sample.num_steps();
  const int64_t theirs = StepsInDiffusers(num_steps, sample.noise_strength());
  if (theirs == executed) return "";
  const auto steps = static_cast<double>(num_steps), run = static_cast<double>(executed);
  std::string same;  // As it is printed.
  for (const double extra : {0.0, 0.5}) {
    same = absl::StrCat(std::min((run + extra) / steps, 1.0));
    if (StepsInDiffusers(num_steps, std::stod(same)) == executed) break;
  }
  return absl::StrCat("`sample.noise_strength` ", sample.noise_strength(), " of ", num_steps,
                      " steps runs ", executed, " of them; diffusers' img2img pipelines run ",
                      theirs, " for that strength: pass strength=", same,
                      " to them to run as many as the job");
}

void AddRewardWarnings(const ResolvedJob& job, std::vector<std::string>* warnings) {
  if (!job.trains() || job.objective() == Objective::kSft) return;  // They are about training.
  bool is_any_full_at_first = false;
  for (size_t i = 0; i < job.rewards().size(); ++i) {
    const RewardConfig& reward = job.rewards()[i];
    const std::string name = absl::StrCat("rewards[", i, "].");
    if (!reward.is_trained() && (reward.normalize || reward.warmup_epochs > 0)) {
      warnings->push_back(absl::StrCat("`", name, reward.normalize ? "normalize" : "warmup_epochs",
                                       "` has no effect: the reward is never trained on"));
    } else if (reward.normalize && job.advantage().combine == Combination::kPerReward) {
      warnings->push_back(
          absl::StrCat("`", name, "normalize` has no effect on advantages with ",
                       "`advantage.combine: per_reward`, which normalises every reward"));
    }
    if (reward.type == RewardType::kKlToBase && reward.is_trained() &&
        reward.weight * reward.scale > 0) {
      warnings->push_back(absl::StrCat(
          "`", name, "weight` is ", reward.weight,
          ", which rewards the distance from the base model; a negative weight is a penalty"));
    }
    if (reward.warmup_epochs >= job.spec().num_epochs() && reward.warmup_epochs > 0) {
      warnings->push_back(absl::StrCat("`", name, "warmup_epochs` is ", reward.warmup_epochs,
                                       ", and the job has ", job.spec().num_epochs(),
                                       " epochs: the reward never has its whole weight"));
    }
    is_any_full_at_first =
        is_any_full_at_first || (reward.is_trained() && reward.warmup_epochs == 0);
  }
  if (!is_any_full_at_first) {
    warnings->push_back(
        "every reward warms up, so that nothing is rewarded in the first epoch; leave "
        "`warmup_epochs` out for the reward that leads");
  }
}

/// The rewards that a job gives to a key that has so many of the images, at most.
int64_t RewardsOfKey(const ResolvedJob& job, int64_t num_images, int64_t images_of_key) {
  const int64_t groups =
      job.spec().num_epochs() * (job.plan().samples_per_epoch / job.plan().group_size);
  const int64_t passes = (groups + num_images - 1) / num_images;
  return std::min(passes * images_of_key, groups) * job.plan().group_size;
}

bool NeverFills(const ResolvedJob& job, int64_t num_images, int64_t images_of_key) {
  return job.advantage().mode == AdvantageMode::kPerKey && job.spec().num_epochs() > 0 &&
         job.objective() == Objective::kDdpo &&
         RewardsOfKey(job, num_images, images_of_key) < job.advantage().min_count;
}

void AddTrustRegionWarnings(const ResolvedJob& job, std::vector<std::string>* warnings) {
  if (!job.trains()) return;
  if (job.decay_target() == DecayTarget::kInitial && job.spec().train().adam_weight_decay() == 0) {
    warnings->push_back("`train.weight_decay_to` has no effect: `train.adam_weight_decay` is 0");
  }
  const TrustRegionSettings& region = job.trust_region();
  if (region.kind == TrustRegion::kRatio) {
    if (region.kl_limit != TrustRegionSettings().kl_limit) {
      warnings->push_back("`train.kl_limit` has no effect without `train.trust_region: kl`");
    }
    return;
  }
  const v1::JobSpec& spec = job.spec();
  if (job.plan().updates_per_inner_epoch * spec.train().num_inner_epochs() == 1 &&
      spec.sample().max_staleness() == 0) {
    warnings->push_back(
        "`train.trust_region: kl` has no effect: an epoch has one update, under the very policy "
        "that drew its samples, so that nothing is beyond `train.kl_limit`");
  }
}

/// Settings of `advantage.mode: group` in another mode, and of groups without groups.
void AddGroupWarnings(const ResolvedJob& job, std::vector<std::string>* warnings) {
  if (job.spec().sample().same_init_noise() && job.plan().group_size == 1) {
    warnings->push_back(
        "`sample.same_init_noise` has no effect without a `sample.group_size` above 1");
  }
  const AdvantageSettings& advantage = job.advantage();
  const AdvantageSettings defaults;
  if (advantage.max_resamples != defaults.max_resamples && !advantage.resamples()) {
    warnings->push_back(
        "`advantage.max_resamples` has no effect without `advantage.mode: group` and "
        "`advantage.zero_std: resample`");
  }
  if (advantage.mode == AdvantageMode::kGroup) return;
  for (const auto& [setting, is_set] :
       {std::pair("std_of", advantage.std_of != defaults.std_of),
        std::pair("leave_one_out", advantage.leave_one_out != defaults.leave_one_out),
        std::pair("zero_std", advantage.zero_std != defaults.zero_std)}) {
    if (!is_set) continue;
    warnings->push_back(
        absl::StrCat("`advantage.", setting, "` has no effect without `advantage.mode: group`"));
  }
}

}  // namespace

std::string ResolvedJob::WarningOfKeys(int64_t num_images, int64_t most_of_a_key) const {
  if (!NeverFills(*this, num_images, most_of_a_key) || NeverFills(*this, 1, 1)) return "";
  return absl::StrCat(
      "`advantage.min_count` is ", advantage_.min_count, ", and in ", spec_.num_epochs(),
      " epochs of ", plan_.samples_per_epoch, " samples no key gets more than ",
      RewardsOfKey(*this, num_images, most_of_a_key), " rewards (`data.path` has ", num_images,
      " images): `advantage.mode: per_key` uses the statistics of the "
      "epoch throughout, as `global` does; lower `advantage.min_count`, or take "
      "more epochs or samples");
}

std::vector<std::string> ResolvedJob::Warnings() const {
  const v1::JobSpec& job = spec_;
  std::vector<std::string> warnings;
  const double guidance = job.sample().guidance_scale();
  const bool eval_uses_prompt = HasHeldOutImages(job) && job.eval().guidance_scale() > 1;
  if (!uses_prompt() && !eval_uses_prompt && !job.data().prompt().empty()) {
    warnings.push_back(absl::StrCat(
        "`data.prompt` is not used: with `sample.guidance_scale` ", guidance,
        " the model sees the negative prompt alone; set it above 1 to use the prompt"));
  }
  if (!uses_prompt() && job.sample().guidance_rescale() > 0) {
    warnings.push_back(
        absl::StrCat("`sample.guidance_rescale` has no effect with "
                     "`sample.guidance_scale` ",
                     guidance));
  }
  if (std::string warning = OtherStepsInDiffusers(job.sample(), executed_steps()); !warning.empty())
    warnings.push_back(std::move(warning));
  if (!trains() && !job.data().path().empty()) {
    warnings.push_back("`data.path` is not read: with `num_epochs: 0` nothing is trained");
  }
  if (trains() && plan_.samples_per_epoch == 1) {
    warnings.push_back(
        "an epoch has one sample: with nothing to compare it to, its advantage is 0 until its key "
        "has "
        "enough rewards; raise `sample.batch_size` or `sample.num_batches_per_epoch`");
  }
  if (!HasHeldOutImages(job) && job.eval().every_epochs() > 0) {
    warnings.push_back("`eval.every_epochs` has no effect without `eval.path`");
  }
  if (job.train().clip_range() > 0.3) {
    warnings.push_back(absl::StrCat("`train.clip_range` ", job.train().clip_range(),
                                    " hardly clips; DDPO uses about 1e-4"));
  }
  if (learning_rate_.warmup_updates > 0 &&
      learning_rate_.warmup_updates >= learning_rate_.total_updates) {
    warnings.push_back(absl::StrCat("`train.lr_warmup_updates` is ", learning_rate_.warmup_updates,
                                    ", and the job has ", learning_rate_.total_updates,
                                    " updates: the learning rate rises until its end"));
  }
  if (learning_rate_.kind == LearningRateKind::kConstant && learning_rate_.min_ratio > 0) {
    warnings.push_back("`train.lr_min_ratio` has no effect with `train.lr_schedule: constant`");
  }
  if (job.sample().max_staleness() > 0 && job.topology().has_colocated()) {
    warnings.push_back(
        "`sample.max_staleness` gains no time with `topology.colocated`: a rank that does both in "
        "turn cannot sample while it trains; the samples are as old all the same");
  }
  if (reduce_ == ReduceKind::kFast &&
      std::max(job.topology().colocated(), job.topology().trainer()) > 1) {
    warnings.push_back(
        "with `train.reduce: fast` the result depends on the number of trainer ranks, so another "
        "`topology` or a job that continues on fewer ranks gives other numbers; use `exact` where "
        "it has to be the same");
  }
  if (job.device().allow_tf32()) {
    warnings.push_back(
        "`device.allow_tf32` acts on GPUs that have it alone (Ampere and later); on a CPU it "
        "changes "
        "nothing");
  }
  if (job.checkpoint().keep() == 1) {
    warnings.push_back(
        "`checkpoint.keep: 1` leaves nothing to fall back to where the newest checkpoint is "
        "damaged");
  }
  if (NeverFills(*this, 1, 1)) {
    warnings.push_back(
        absl::StrCat("`advantage.min_count` is ", advantage_.min_count, ", and the job has ",
                     RewardsOfKey(*this, 1, 1),
                     " samples: no key gets so many rewards, and `advantage.mode: "
                     "per_key` uses the statistics of the epoch throughout, as `global` does"));
  }
  if (objective_ == Objective::kSft && !job.rewards().empty() && !HasHeldOutImages(job)) {
    warnings.push_back(
        "`rewards` have no effect: with `train.objective: sft` they score evaluations alone, and "
        "the job has none; give `eval.path`");
  }
  AddRewardWarnings(*this, &warnings);
  AddGroupWarnings(*this, &warnings);
  AddTrustRegionWarnings(*this, &warnings);
  return warnings;
}

}  // namespace imageddpo
