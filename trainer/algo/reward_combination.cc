#include "trainer/algo/reward_combination.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/algo/moments.h"

namespace imageddpo {
namespace {

constexpr double kLeastSpread = 1e-8;

double WeightIn(int64_t epoch, const RewardConfig& reward) {
  if (epoch >= reward.warmup_epochs) return reward.weight;
  return reward.weight * static_cast<double>(epoch) / static_cast<double>(reward.warmup_epochs);
}

}  // namespace

RewardCombination::RewardCombination(const ResolvedJob& job) {
  bool is_plain = job.advantage().combine == Combination::kSum;
  for (const RewardConfig& reward : job.rewards()) {
    if (!reward.is_trained()) continue;
    terms_.push_back({.config = reward});
    is_plain = is_plain && !reward.normalize && reward.warmup_epochs == 0;
  }
  if (is_plain) terms_.clear();
  for (const Term& term : terms_) parts_.push_back(absl::StrCat(term.config.name, ".value"));
}

void RewardCombination::Combine(int64_t epoch, std::vector<std::vector<double>> values_TN,
                                EpochRewards* rewards) {
  const auto fits = [&](const std::vector<double>& values) {
    return values.size() == values_TN.front().size();
  };
  if (values_TN.size() != terms_.size() || terms_.empty() ||
      !std::all_of(values_TN.begin(), values_TN.end(), fits)) {
    throw std::invalid_argument(absl::StrCat("RewardCombination: not the values of ", terms_.size(),
                                             " rewards for each sample"));
  }
  rewards->rewards.assign(values_TN.front().size(), 0.0);
  rewards->terms.clear();
  for (size_t t = 0; t < terms_.size(); ++t) {
    Term& term = terms_[t];
    RewardTerm made{.name = term.config.name,
                    .weight = WeightIn(epoch, term.config),
                    .values = std::move(values_TN[t])};
    if (term.config.normalize) {
      const Moments moments = MomentsOf(made.values);
      const auto count = static_cast<double>(made.values.size());
      term.count += count;
      term.squares += moments.std * moments.std * count;
      const double spread = std::sqrt(term.squares / std::max(term.count, 1.0));
      if (spread >= kLeastSpread) {
        for (double& value : made.values) value /= spread;
      }
    }
    for (size_t i = 0; i < made.values.size(); ++i) {
      rewards->rewards[i] += made.weight * made.values[i];
    }
    rewards->terms.push_back(std::move(made));
  }
}

nlohmann::json RewardCombination::State() const {
  nlohmann::json state;
  for (const Term& term : terms_) {
    if (!term.config.normalize) continue;
    state[term.config.name] = {{"count", term.count}, {"squares", term.squares}};
  }
  return state;
}

absl::Status RewardCombination::Restore(const nlohmann::json& state) {
  std::vector<Term> terms = terms_;
  for (Term& term : terms) {
    if (!term.config.normalize) continue;
    const nlohmann::json of_term =
        state.is_object() ? state.value(term.config.name, nlohmann::json()) : nlohmann::json();
    for (const auto& [key, number] :
         {std::pair("count", &term.count), std::pair("squares", &term.squares)}) {
      const nlohmann::json value =
          of_term.is_object() ? of_term.value(key, nlohmann::json()) : nlohmann::json();
      if (!value.is_number() || !(value.get<double>() >= 0)) {
        return absl::InvalidArgumentError(
            absl::StrCat("rewards.", term.config.name, ".", key,
                         " must be there and not negative: the reward is normalised"));
      }
      *number = value.get<double>();
    }
  }
  terms_ = std::move(terms);
  return absl::OkStatus();
}

}  // namespace imageddpo
