// How a job learns: whether it can do so in a single pass, and the checks of `train`, `advantage`
// and `guards`.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/config/choices.h"
#include "common/config/resolve_steps.h"
#include "common/config/reward_types.h"

namespace imageddpo {
namespace {

/// @param executed  K, the steps that are executed.
void CheckWindow(const std::string& setting, const v1::StepWindowSpec& window, int64_t executed,
                 Faults* faults) {
  if (!window.has_size()) {
    faults->Add(absl::StrCat("`", setting, ".size` is not given; it must be a number of steps"));
    return;
  }
  const std::string of_all = absl::StrCat(", of the ", executed, " executed steps");
  const auto check = [&](const char* field, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return true;
    faults->Add(absl::StrCat(setting, ".", field), absl::StrCat(value),
                absl::StrCat("a whole number from ", min, " to ", max, of_all));
    return false;
  };
  if (!check("size", window.size(), 1, executed)) return;
  check("start", window.start(), 0, executed - window.size());
  faults->Range(setting + ".stride", window.stride(), 0);
  faults->Range(setting + ".every_epochs", window.every_epochs(), 1);
}

}  // namespace

bool ResamplesGroups(const v1::JobSpec& job) {
  const v1::AdvantageSpec& advantage = job.advantage();
  return FindChoice(kAdvantageModes, advantage.mode()) == AdvantageMode::kGroup &&
         FindChoice(kZeroStds, advantage.zero_std()) == ZeroStd::kResample;
}

bool IsSupervised(const v1::JobSpec& job) {
  return FindChoice(kObjectives, job.train().objective()) == Objective::kSft;
}

std::string WhyNoSinglePass(const v1::JobSpec& job, const JobPlan& plan) {
  if (IsSupervised(job)) {
    return "`train.objective: sft` samples nothing whose gradients could be collected";
  }
  if (plan.updates_per_inner_epoch != 1) {
    return absl::StrCat("an epoch has ", plan.updates_per_inner_epoch,
                        " updates, and from the second one on the weights are not those that "
                        "sampled; raise `train.batch_size` or `train.gradient_accumulation_steps` "
                        "until one update takes all ",
                        plan.samples_per_epoch, " samples");
  }
  if (job.train().num_inner_epochs() != 1) {
    return absl::StrCat("`train.num_inner_epochs` is ", job.train().num_inner_epochs(),
                        ", and from the second one on the weights are not those that sampled; set "
                        "it to 1");
  }
  if (job.sample().max_staleness() != 0) {
    return absl::StrCat("`sample.max_staleness` is ", job.sample().max_staleness(),
                        ", and stale samples are not of the weights that are trained; set it to 0");
  }
  if (job.train().kl_coef() > 0) {
    return absl::StrCat("`train.kl_coef` is ", job.train().kl_coef(),
                        ", and the gradient of that term is not among those that sampling "
                        "collects; set it to 0, or penalise the divergence with a reward of "
                        "`type: kl_to_base`");
  }
  if (!job.topology().has_colocated()) {
    return "gradients stay on the rank that sampled, which has to train as well; set `topology: "
           "{colocated: C}`";
  }
  return "";
}

void ChooseUpdate(JobPlan* plan, v1::JobSpec* job) {
  const std::string& asked = job->train().update();
  if (asked == WordOf(kUpdates, UpdateKind::kAuto)) {
    const bool is_single = job->num_epochs() > 0 && WhyNoSinglePass(*job, *plan).empty();
    job->mutable_train()->set_update(
        WordOf(kUpdates, is_single ? UpdateKind::kSinglePass : UpdateKind::kReplay));
  }
  plan->single_pass = asked == WordOf(kUpdates, UpdateKind::kSinglePass);
}

void CheckTrain(const v1::TrainSpec& train, Faults* faults) {
  faults->Real("train.learning_rate", train.learning_rate(), train.learning_rate() > 0, "above 0");
  faults->Choice("train.lr_schedule", train.lr_schedule(), Words(kLearningRates));
  faults->Range("train.lr_warmup_updates", train.lr_warmup_updates(), 0, 100 * Faults::kMaxCount);
  faults->Real("train.lr_min_ratio", train.lr_min_ratio(),
               train.lr_min_ratio() >= 0 && train.lr_min_ratio() <= 1, "from 0 to 1");
  faults->Real("train.max_grad_zscore", train.max_grad_zscore(), train.max_grad_zscore() >= 0,
               "0 (no update is skipped) or above");
  faults->Real("train.ema_decay", train.ema_decay(),
               train.ema_decay() >= 0 && train.ema_decay() < 1, "from 0 (no average) to below 1");
  faults->Range("train.ema_warmup_updates", train.ema_warmup_updates(), 0, 100 * Faults::kMaxCount);
  faults->Real("train.clip_range", train.clip_range(),
               train.clip_range() > 0 && train.clip_range() < 1, "above 0 and below 1");
  faults->Real("train.clip_range_low", train.clip_range_low(),
               train.clip_range_low() >= 0 && train.clip_range_low() < 1,
               "from 0 (`train.clip_range`) to below 1");
  faults->Real("train.clip_range_high", train.clip_range_high(), train.clip_range_high() >= 0,
               "0 (`train.clip_range`) or above");
  faults->Choice("train.trust_region", train.trust_region(), Words(kTrustRegions));
  faults->Real("train.kl_limit", train.kl_limit(), train.kl_limit() > 0, "above 0");
  faults->Real("train.kl_coef", train.kl_coef(), train.kl_coef() >= 0, "0 (no such term) or above");
  faults->Range("train.num_inner_epochs", train.num_inner_epochs(), 1, 1000);
  faults->Real("train.adv_clip_max", train.adv_clip_max(), train.adv_clip_max() > 0, "above 0");
  faults->Real("train.max_grad_norm", train.max_grad_norm(), train.max_grad_norm() > 0, "above 0");
  for (const auto& [setting, beta] : {std::pair("train.adam_beta1", train.adam_beta1()),
                                      std::pair("train.adam_beta2", train.adam_beta2())}) {
    faults->Real(setting, beta, beta >= 0 && beta < 1, "from 0 to below 1");
  }
  faults->Real("train.adam_weight_decay", train.adam_weight_decay(), train.adam_weight_decay() >= 0,
               "0 or above");
  faults->Choice("train.weight_decay_to", train.weight_decay_to(), Words(kDecayTargets));
  faults->Real("train.adam_epsilon", train.adam_epsilon(), train.adam_epsilon() > 0, "above 0");
  faults->Real("train.staleness_weight_cap", train.staleness_weight_cap(),
               train.staleness_weight_cap() >= 1, "at least 1");
  faults->Choice("train.optimizer", train.optimizer(), Words(kOptimizers));
  faults->Range("train.min_8bit_size", train.min_8bit_size(), 0, 100 * Faults::kMaxCount);
  faults->Choice("train.update", train.update(), Words(kUpdates));
  faults->Choice("train.reduce", train.reduce(), Words(kReduces));
}

void CheckObjective(const v1::JobSpec& job, Faults* faults) {
  faults->Choice("train.objective", job.train().objective(), Words(kObjectives));
  if (!IsSupervised(job)) return;
  const auto refuse = [faults](bool is_set, const char* setting, const char* reset) {
    if (!is_set) return;
    faults->Add(absl::StrCat("`", setting, "` has no meaning with `train.objective: sft`, which ",
                             "samples nothing in training; ", reset));
  };
  refuse(job.sample().max_staleness() > 0, "sample.max_staleness", "set it to 0");
  refuse(job.train().kl_coef() > 0, "train.kl_coef", "set it to 0");
  refuse(FindChoice(kTrustRegions, job.train().trust_region()) == TrustRegion::kKl,
         "train.trust_region", "leave it out");
}

void CheckTrainedSteps(const v1::JobSpec& job, Faults* faults) {
  const double fraction = job.train().step_fraction();
  faults->Real("train.step_fraction", fraction, fraction > 0 && fraction <= 1,
               "above 0 and at most 1: the share of a trajectory's steps that is trained");
  const v1::SampleSpec& sample = job.sample();
  const double strength = sample.noise_strength();
  if (sample.num_steps() < 1 || !(strength > 0 && strength <= 1)) return;  // Told already.
  const int64_t executed = sample.num_steps() - FirstExecutedStep(sample.num_steps(), strength);
  if (sample.has_sde_window()) {
    CheckWindow("sample.sde_window", sample.sde_window(), executed, faults);
  }
  if (!job.train().has_step_window()) return;
  CheckWindow("train.step_window", job.train().step_window(), executed, faults);
  if (sample.has_sde_window()) {
    faults->Add(
        "`train.step_window` is given with `sample.sde_window`, which trains its own steps; use "
        "the one or the other");
  }
}

void CheckAdvantage(const v1::JobSpec& job, Faults* faults) {
  const v1::AdvantageSpec& advantage = job.advantage();
  faults->Choice("advantage.mode", advantage.mode(), Words(kAdvantageModes));
  faults->Choice("advantage.stat_key", advantage.stat_key(), Words(kStatKeys));
  faults->Choice("advantage.combine", advantage.combine(), Words(kCombinations));
  faults->Choice("advantage.std_of", advantage.std_of(), Words(kStdsOf));
  faults->Choice("advantage.zero_std", advantage.zero_std(), Words(kZeroStds));
  faults->Range("advantage.max_resamples", advantage.max_resamples(), 1, 8);
  faults->Range("advantage.buffer_size", advantage.buffer_size(), 1);
  faults->Range("advantage.min_count", advantage.min_count(), 1);
  if (FindChoice(kAdvantageModes, advantage.mode()) == AdvantageMode::kPerKey &&
      advantage.min_count() > advantage.buffer_size()) {
    faults->Add("advantage.min_count", absl::StrCat(advantage.min_count()),
                absl::StrCat("at most `advantage.buffer_size` (", advantage.buffer_size(),
                             "), or a key's own statistics are never used"));
  }
  if (FindChoice(kAdvantageModes, advantage.mode()) != AdvantageMode::kGroup) return;
  if (job.sample().group_size() == 1) {
    faults->Add("sample.group_size", "1",
                "at least 2 with `advantage.mode: group`, which compares the samples of a group");
  }
  if (FindChoice(kCombinations, advantage.combine()) == Combination::kPerReward &&
      FindChoice(kStdsOf, advantage.std_of()) == StdOf::kNone) {
    faults->Add("advantage.std_of", "`none`",
                "group or global with `advantage.combine: per_reward`, which is there to bring "
                "rewards of different spread to one size");
  }
}

void CheckGuards(const v1::JobSpec& job, Faults* faults) {
  const v1::GuardsSpec& guards = job.guards();
  faults->Choice("guards.non_finite", guards.non_finite(), Words(kNonFinitePolicies));
  const auto check = [faults](const std::string& name, const v1::GuardSpec& guard,
                              const char* hint = "") {
    const std::string prefix = absl::StrCat("guards.", name, ".");
    if (guard.policy() == WordOf(kNonFinitePolicies, GuardPolicy::kSkip)) {
      faults->Add(absl::StrCat("`", prefix, "policy` cannot be `skip`", hint));
    } else {
      faults->Choice(prefix + "policy", guard.policy(), Words(kGuardPolicies));
    }
    faults->Real(prefix + "threshold", guard.threshold(), guard.threshold() >= 0, "0 or above");
  };
  const char* const of_epochs = ": it judges epochs, and only updates can be skipped";
  check("gradient_spike", guards.gradient_spike(),
        "; updates that are spikes are skipped with `train.max_grad_zscore`");
  check("reward_collapse", guards.reward_collapse(), of_epochs);
  check("approx_kl", guards.approx_kl(), of_epochs);
  check("kl_to_base", guards.kl_to_base(), of_epochs);
  check("zero_spread", guards.zero_spread(), of_epochs);
  check("image_statistics", guards.image_statistics(), of_epochs);
  check("held_out", guards.held_out(), of_epochs);
  const bool measures_kl =
      job.train().kl_coef() > 0 ||
      std::any_of(job.rewards().begin(), job.rewards().end(), [](const v1::RewardSpec& reward) {
        return reward.type() == NameOf(RewardType::kKlToBase);
      });
  if (guards.kl_to_base().threshold() > 0 && !measures_kl) {
    faults->Add(
        "`guards.kl_to_base.threshold` is given, and nothing measures that divergence; add a "
        "reward `{type: kl_to_base, held_out: true}`, or set `train.kl_coef`");
  }
  faults->Range("guards.max_rollbacks", guards.max_rollbacks(), 1, 100);
  faults->Range("guards.rollbacks", guards.rollbacks(), 0, 100);
  const double factor = guards.rollback_lr_factor();
  faults->Real("guards.rollback_lr_factor", factor, factor > 0 && factor <= 1,
               "above 0 and at most 1");
}

}  // namespace imageddpo
