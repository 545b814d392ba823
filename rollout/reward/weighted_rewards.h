#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// The weighted sum of rewards, itself a reward. All terms of a batch are started at once and
/// waited for in order.
/// Values: the sum of weight · value over the terms that are not held out, added in their order;
/// RewardConfig says how a value comes from what the reward measures. An item that a term, held out
/// or not, has no finite value for has none: its error has the term's name and the image's id in
/// its message, and is the first such term's. A NaN or infinite value is OUT_OF_RANGE. A term with
/// `on_nan: drop` drops items of such values, one with `on_error: drop` those whose value is an
/// error of the term: these have no error but NaN as their value, which leaves the sample out;
/// where the term is held out, the sum stays as it is.
/// Parts: "<term>.value" (unweighted), "<term>.<part>" and, of a term that may drop items,
/// "<term>.dropped": 1 for an item that it drops, else 0.
/// An error of a term, DEADLINE_EXCEEDED included, is the sum's, with the term's name before it.
class WeightedRewards final : public Reward {
 public:
  struct Term {
    std::unique_ptr<Reward> reward;
    RewardConfig config;  ///< Its name, its weight and what makes its values.
  };
  explicit WeightedRewards(std::vector<Term> terms) : terms_(std::move(terms)) {}

  std::string name() const override { return "weighted"; }
  RewardNeeds wants() const override;  ///< What any of the terms wants.
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  std::vector<Term> terms_;
};

}  // namespace imageddpo
