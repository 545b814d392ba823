#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// `advantage.combine: per_reward`. Each reward has advantages of its own, by the rule of
/// `advantage.mode`; they are added up with the rewards' weights, and the sums are normalised over
/// the epoch, so that their size does not depend on the number of rewards:
///
///   s = Σ over the rewards of weight · advantage,   A = (s − mean s) / (std s + 1e-8)
///
/// with the population's std. A reward of large values then counts no more than its weight says,
/// and samples with equal sums of different rewards keep different advantages. This is GDPO (Liu et
/// al., arXiv:2601.05242), whose groups of answers to one prompt are here what the mode says.
/// The state is that of each reward's rule, by the reward's name.
class PerRewardAdvantages final : public AdvantageRule {
 public:
  /// @param settings  those of each reward's rule.
  explicit PerRewardAdvantages(const AdvantageSettings& settings);

  /// @throws std::invalid_argument  without EpochRewards::terms, or as the mode's rule.
  std::vector<double> Advantages(const EpochRewards& epoch) override;

  nlohmann::json State() const override;
  absl::Status Restore(const nlohmann::json& state) override;

 private:
  std::unique_ptr<AdvantageRule> MakeRule() const;

  AdvantageSettings settings_;
  std::map<std::string, std::unique_ptr<AdvantageRule>> rules_;  ///< By reward.
};

}  // namespace imageddpo
