#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/plan/predict.h"

namespace imageddpo {
namespace {

/// Topologies that differ by less than this share of the time count as equally fast.
constexpr double kEqual = 0.01;

/// Every topology of at most `num_ranks` ranks that leaves no rank idle that the job could use.
std::vector<Topology> Candidates(const JobPlan& plan, int num_ranks) {
  const auto shards = static_cast<int>(std::min<int64_t>(plan.gradient_shards, num_ranks));
  const auto micro_batches =
      static_cast<int>(std::min<int64_t>(plan.micro_batches_per_epoch, num_ranks));
  std::vector<Topology> candidates = {{.rollout = shards, .trainer = shards, .colocated = true}};
  for (int trainer = 1; trainer <= shards && trainer < num_ranks; ++trainer) {
    const int rollout = std::min(num_ranks - trainer, micro_batches);
    candidates.push_back({.rollout = rollout, .trainer = trainer, .colocated = false});
  }
  return candidates;
}

bool IsBetter(const Prediction& a, const Prediction& b) {
  if (a.fits != b.fits) return a.fits;
  const double step = std::log1p(kEqual);  // Classes of speed, so that the order is a strict one.
  const auto a_class = std::lround(std::log(a.epoch_seconds) / step);
  const auto b_class = std::lround(std::log(b.epoch_seconds) / step);
  if (a_class != b_class) return a_class < b_class;
  if (a.topology.ranks() != b.topology.ranks()) return a.topology.ranks() < b.topology.ranks();
  return a.epoch_seconds < b.epoch_seconds;
}

/// 1, 2, 5, 10, ..., and `most`.
std::vector<int> RankCounts(int most) {
  std::set<int> counts = {most};
  for (int decade = 1; decade <= most; decade *= 10) {
    for (const int factor : {1, 2, 5}) {
      if (decade * factor <= most) counts.insert(decade * factor);
    }
  }
  return {counts.begin(), counts.end()};
}

/// The job's own number of gradient shards and, where `ranks` is not 0, one for each rank: more
/// would only be more to exchange and to keep.
std::set<int64_t> ShardChoices(const JobPlan& plan, int ranks) {
  std::set<int64_t> choices = {plan.gradient_shards};
  if (ranks > 0) choices.insert(std::min<int64_t>(ranks, plan.micro_batches_per_update));
  return choices;
}

}  // namespace

absl::StatusOr<std::vector<Prediction>> PredictAll(const ResolvedJob& job, int num_ranks,
                                                   const PlanInputs& inputs) {
  constexpr int kMostRanks = 100'000;
  if (num_ranks < 1 || num_ranks > kMostRanks) {
    return absl::InvalidArgumentError(absl::StrCat("--ranks is ", num_ranks,
                                                   "; it must be from 1 to ", kMostRanks,
                                                   ": how many workers the job may have"));
  }
  absl::StatusOr<ResolvedJob> same_update = job;
  if (IsAuto(job.spec().topology())) {
    same_update = job.With(
        [&](v1::JobSpec* spec) { spec->mutable_train()->set_update(job.spec().train().update()); });
    IMAGEDDPO_RETURN_IF_ERROR(same_update.status());
  }
  std::vector<Prediction> predictions;
  absl::Status why_not;
  for (const Topology& topology : Candidates(job.plan(), num_ranks)) {
    absl::StatusOr<Prediction> prediction = Predict(*same_update, topology, inputs);
    if (!prediction.ok()) {  // As `train.update: single_pass` on separate ranks.
      why_not = prediction.status();
      continue;
    }
    prediction->idle_ranks = num_ranks - topology.ranks();
    predictions.push_back(*std::move(prediction));
  }
  if (predictions.empty()) return why_not;
  std::sort(predictions.begin(), predictions.end(), IsBetter);
  return predictions;
}

absl::StatusOr<ResolvedJob> GrowJob(const ResolvedJob& job, int64_t factor) {
  return job.With([&](v1::JobSpec* grown) {
    grown->mutable_sample()->set_num_batches_per_epoch(job.spec().sample().num_batches_per_epoch() *
                                                       factor);
    grown->mutable_train()->set_gradient_accumulation_steps(
        job.spec().train().gradient_accumulation_steps() * factor);
  });
}

absl::StatusOr<std::vector<Prediction>> PredictScaling(const ResolvedJob& job, int most, bool grow,
                                                       const PlanInputs& inputs) {
  const bool choose_shards = grow && job.spec().train().gradient_shards() == 0;
  std::vector<Prediction> best;
  for (const int ranks : RankCounts(most)) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob grown, GrowJob(job, grow ? ranks : 1));
    std::vector<Prediction> found;
    for (const int64_t shards : ShardChoices(grown.plan(), choose_shards ? ranks : 0)) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob sharded, grown.With([&](v1::JobSpec* spec) {
        spec->mutable_train()->set_gradient_shards(shards);
      }));
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<Prediction> all,
                                 PredictAll(sharded, ranks, inputs));
      found.push_back(all.front());
    }
    best.push_back(*std::min_element(found.begin(), found.end(), IsBetter));
  }
  return best;
}

}  // namespace imageddpo
