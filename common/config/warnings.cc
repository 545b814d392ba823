#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/config/resolved_job.h"

namespace imageddpo {
namespace {

void AddRewardWarnings(const ResolvedJob& job, std::vector<std::string>* warnings) {
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

}  // namespace

std::vector<std::string> ResolvedJob::Warnings() const {
  const v1::JobSpec& job = spec_;
  std::vector<std::string> warnings;
  const double guidance = job.sample().guidance_scale();
  if (!uses_prompt() && !job.data().prompt().empty()) {
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
  if (plan_.samples_per_epoch == 1) {
    warnings.push_back(
        "an epoch has one sample: with nothing to compare it to, its advantage is 0 until its key "
        "has "
        "enough rewards; raise `sample.batch_size` or `sample.num_batches_per_epoch`");
  }
  if (job.eval().path().empty() && job.eval().every_epochs() > 0) {
    warnings.push_back("`eval.every_epochs` has no effect without `eval.path`");
  }
  if (job.train().clip_range() > 0.3) {
    warnings.push_back(absl::StrCat("`train.clip_range` ", job.train().clip_range(),
                                    " hardly clips; DDPO uses about 1e-4"));
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
  AddRewardWarnings(*this, &warnings);
  return warnings;
}

}  // namespace imageddpo
