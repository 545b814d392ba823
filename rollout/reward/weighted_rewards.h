#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// The weighted sum of rewards, itself a reward. All terms of a batch are started at once and
/// waited for in order.
/// Values: the sum of weight · value, added in the order of the terms. An item that a term has no
/// finite value for has none: its error has the term's name and the image's id in its message, and
/// is the first such term's. A NaN or infinite value is OUT_OF_RANGE.
/// Parts: "<term>.value" (unweighted) and "<term>.<part>".
/// An error of a term, DEADLINE_EXCEEDED included, is the sum's, with the term's name before it.
class WeightedRewards final : public Reward {
 public:
  struct Term {
    std::unique_ptr<Reward> reward;
    double weight = 1.0;
    std::string name = "";  ///< Empty: the reward's own.
  };
  /// A second term of the same name is called "<name>_2", and so on.
  explicit WeightedRewards(std::vector<Term> terms);

  std::string name() const override { return "weighted"; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

  /// Names of the terms, in order; the prefixes of the parts.
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<Term> terms_;
  std::vector<std::string> names_;
};

}  // namespace imageddpo
