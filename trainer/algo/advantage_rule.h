#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// One trained reward of an epoch.
struct RewardTerm {
  std::string name;            ///< RewardConfig::name
  double weight = 0;           ///< In this epoch.
  std::vector<double> values;  ///< One for each sample; finite.
};

/// An epoch's rewards in sample order, with what a rule may group them by.
struct EpochRewards {
  std::vector<double> rewards;  ///< Finite.
  /// One for each reward; may be empty where the rule does not ask for them.
  std::vector<std::string> image_ids, prompts;
  std::vector<int64_t> groups;  ///< Equal for the samples of a group; as those above.
  /// What the rewards are the weighted sum of; empty where no setting of the job asks for it.
  std::vector<RewardTerm> terms;
};

/// Turns rewards into advantages: how much better a sample was than was to be expected. All trainer
/// ranks call their rule with the same epochs in the same order, so a rule must be a function of
/// its settings and of these calls alone. Thread-compatible.
class AdvantageRule {
 public:
  virtual ~AdvantageRule() = default;

  /// Called once for each epoch.
  /// @return one advantage for each reward, in their order; not clamped: the loss does that.
  /// @throws std::invalid_argument  the sizes of what the rule needs differ.
  virtual std::vector<double> Advantages(const EpochRewards& epoch) = 0;

  /// What outlives an epoch, as `statistics` in a checkpoint's state.json; null: nothing does.
  virtual nlohmann::json State() const { return nullptr; }
  /// Restores what State() returned, null included. A rule without a state takes anything.
  /// @return INVALID_ARGUMENT where it does not fit; then nothing has changed.
  virtual absl::Status Restore(const nlohmann::json& /*state*/) { return absl::OkStatus(); }
};

/// The rule of `advantage.mode` and `advantage.combine`.
std::unique_ptr<AdvantageRule> MakeAdvantageRule(const AdvantageSettings& settings);

}  // namespace imageddpo
