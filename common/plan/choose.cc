#include "common/plan/choose.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/config/choices.h"

namespace imageddpo {
namespace {

constexpr double kParametersOfARank = 0.2e6;  // Of a LoRA, for each unit of lora.rank.
constexpr double kShareOfGradients = 0.25;    // Of a rank's memory.
constexpr double kMostGradientBytes = 2e9;    // Where the memory is not known.

/// Of a single pass: the samples of the busiest rank, and a micro-batch's rows while it is sampled.
double GradientBytes(const ResolvedJob& job, const std::optional<ModelCount>& model) {
  const JobPlan& plan = job.plan();
  const int64_t ranks = std::max<int64_t>(1, job.spec().topology().colocated());
  const int64_t rows = plan.device_batch_size * (job.uses_prompt() ? 2 : 1);
  const double parameters =
      model.has_value() ? model->unet.lora_parameters
                        : kParametersOfARank * static_cast<double>(job.spec().lora().rank());
  return kFloatBytes * parameters * static_cast<double>(plan.MostSamplesOfATrainer(ranks) + rows);
}

std::string Seconds(const Prediction& prediction) {
  const double seconds = prediction.epoch_seconds;
  return seconds < 100 ? absl::StrFormat("%.3g s", seconds) : absl::StrFormat("%.0f s", seconds);
}

}  // namespace

absl::StatusOr<TopologyChoice> ChooseTopology(const ResolvedJob& job, int num_ranks,
                                              const PlanInputs& inputs) {
  if (!IsAuto(job.spec().topology())) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const Topology named, NamedTopology(job, num_ranks));
    return TopologyChoice{.topology = named};
  }
  if (num_ranks < 1) {
    return absl::FailedPreconditionError("the pool has no worker; start more ranks");
  }
  if (!job.trains()) {
    return TopologyChoice{.topology = {.rollout = 1, .trainer = 1, .colocated = true},
                          .why = "colocated 1: a job without epochs takes one rank"};
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<Prediction> predictions,
                             PredictAll(job, num_ranks, inputs));
  const Prediction& best = predictions.front();
  return TopologyChoice{
      .topology = best.topology, .fits = best.fits, .why = WhyChosen(best.topology, predictions)};
}

std::string WhyChosen(const Topology& chosen, const std::vector<Prediction>& predictions) {
  const auto is_chosen = [&](const Prediction& prediction) {
    return prediction.topology == chosen;
  };
  const auto found = std::find_if(predictions.begin(), predictions.end(), is_chosen);
  const auto other = std::find_if_not(predictions.begin(), predictions.end(), is_chosen);
  if (found == predictions.end()) return "";
  std::string why =
      absl::StrCat(chosen.ToString(), ": an epoch is predicted to take ", Seconds(*found));
  if (other == predictions.end()) {
    absl::StrAppend(&why, "; there is no other choice");
  } else {
    absl::StrAppend(&why, other < found ? "; the best is " : "; the next best is ",
                    other->topology.ToString(), " with ", Seconds(*other));
  }
  if (!found->fits) absl::StrAppend(&why, "; it does not fit the memory");
  if (other != predictions.end() && found->fits && !other->fits) {
    absl::StrAppend(&why, ", which does not fit the memory");
  }
  return why;
}

absl::StatusOr<ResolvedJob> CloseUpdate(const ResolvedJob& job,
                                        const std::optional<ModelCount>& model,
                                        double memory_bytes) {
  const std::string& asked = job.submitted().train().update();
  if (!asked.empty() && asked != WordOf(kUpdates, UpdateKind::kAuto)) return job;
  const double most = memory_bytes > 0 ? kShareOfGradients * memory_bytes : kMostGradientBytes;
  const bool is_single = job.plan().single_pass && GradientBytes(job, model) <= most;
  return job.With([&](v1::JobSpec* spec) {
    spec->mutable_train()->set_update(
        WordOf(kUpdates, is_single ? UpdateKind::kSinglePass : UpdateKind::kReplay));
  });
}

}  // namespace imageddpo
