#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/config/choices.h"
#include "common/config/resolve_steps.h"

namespace imageddpo {
namespace {

/// Up to this product of a rank's samples and lora.rank, `auto` keeps the gradients: about 2 GB at
/// Stable Diffusion 1.5's size with adapters on attention, 0.8 MB for each sample and unit of rank.
constexpr int64_t kMostSampleRanks = 2560;

}  // namespace

std::string WhyNoSinglePass(const v1::JobSpec& job, const JobPlan& plan) {
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
  if (!job.topology().has_colocated()) {
    return "gradients stay on the rank that sampled, which has to train as well; set `topology: "
           "{colocated: C}`";
  }
  return "";
}

void ChooseUpdate(JobPlan* plan, v1::JobSpec* job) {
  const std::string& asked = job->train().update();
  if (asked == WordOf(kUpdates, UpdateKind::kAuto)) {
    const bool small =
        plan->MostSamplesOfATrainer(std::max<int64_t>(1, job->topology().colocated())) *
            job->lora().rank() <=
        kMostSampleRanks;
    const bool is_single = small && job->num_epochs() > 0 && WhyNoSinglePass(*job, *plan).empty();
    job->mutable_train()->set_update(
        WordOf(kUpdates, is_single ? UpdateKind::kSinglePass : UpdateKind::kReplay));
  }
  plan->single_pass = asked == WordOf(kUpdates, UpdateKind::kSinglePass);
}

}  // namespace imageddpo
