#include "rollout/reward/weighted_rewards.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr double kNotScored = std::numeric_limits<double>::quiet_NaN();

/// The sum of terms that are pending.
class PendingSum final : public PendingReward {
 public:
  struct Term {
    RewardConfig config;
    std::unique_ptr<PendingReward> pending;
  };
  PendingSum(std::shared_ptr<const RewardBatch> batch, std::vector<Term> terms)
      : batch_(std::move(batch)), terms_(std::move(terms)) {
    sum_.values_B.assign(batch_->examples.size(), 0.0);
  }

  absl::StatusOr<RewardOutput> Wait(RewardDeadline deadline) override {
    for (; num_added_ < terms_.size(); ++num_added_) {
      const Term& term = terms_[num_added_];
      absl::StatusOr<RewardOutput> output = term.pending->Wait(deadline);
      if (output.ok()) output = Checked(*std::move(output));
      if (!output.ok()) {
        return Annotate(output.status(), absl::StrCat("reward '", term.config.name, "'"));
      }
      Add(term, *std::move(output));
    }
    return std::move(sum_);
  }

 private:
  absl::StatusOr<RewardOutput> Checked(RewardOutput output) const {
    const size_t num_items = batch_->examples.size();
    bool all_fit = output.values_B.size() == num_items;
    for (const auto& [part, numbers_B] : output.parts) {
      all_fit = all_fit && numbers_B.size() == num_items;
    }
    if (all_fit) return output;
    return absl::InternalError("it did not return one value per image");
  }

  void Add(const Term& term, RewardOutput output) {
    const std::string& name = term.config.name;
    std::vector<double> values_B, dropped_B;
    for (size_t i = 0; i < output.values_B.size(); ++i) {
      absl::StatusOr<double>& value = output.values_B[i];
      bool drops = term.config.on_error == OnRewardError::kDrop;
      if (value.ok()) {
        *value = term.config.ValueOf(*value);
        if (!std::isfinite(*value)) {
          value = absl::OutOfRangeError(absl::StrCat("the value ", *value, " is not finite"));
          drops = term.config.on_nan == OnNan::kDrop;
        }
      }
      const bool is_dropped = drops && !value.ok();
      const std::string image = absl::StrCat("image '", batch_->examples[i].id, "'");
      if (is_dropped) {
        sum_.why_dropped.try_emplace(name, Annotate(value.status(), image).message());
      }
      dropped_B.push_back(is_dropped ? 1.0 : 0.0);
      values_B.push_back(value.ok() ? *value : kNotScored);
      absl::StatusOr<double>& sum = sum_.values_B[i];
      if (!sum.ok()) continue;
      if (value.ok() || is_dropped) {
        // Only what is trained on can drop a sample.
        if (is_dropped ? term.config.is_trained() : !term.config.held_out) {
          *sum += term.config.weight * values_B.back();
        }
      } else {
        sum = Annotate(value.status(), absl::StrCat("reward '", name, "' of ", image));
      }
    }
    sum_.parts.emplace(absl::StrCat(name, ".value"), std::move(values_B));
    if (term.config.drops()) {
      sum_.parts.emplace(absl::StrCat(name, ".dropped"), std::move(dropped_B));
    }
    for (auto& [part, numbers_B] : output.parts) {
      sum_.parts.emplace(absl::StrCat(name, ".", part), std::move(numbers_B));
    }
  }

  std::shared_ptr<const RewardBatch> batch_;
  std::vector<Term> terms_;
  RewardOutput sum_;
  size_t num_added_ = 0;  // Terms that are in the sum: after a timeout, Wait() goes on from there.
};

}  // namespace

RewardNeeds WeightedRewards::wants() const {
  RewardNeeds needs;
  for (const Term& term : terms_) {
    needs.targets = needs.targets || term.reward->wants().targets;
    needs.kl_to_base = needs.kl_to_base || term.reward->wants().kl_to_base;
  }
  return needs;
}

std::unique_ptr<PendingReward> WeightedRewards::Start(std::shared_ptr<const RewardBatch> batch) {
  std::vector<PendingSum::Term> pending;
  for (const Term& term : terms_) pending.push_back({term.config, term.reward->Start(batch)});
  return std::make_unique<PendingSum>(std::move(batch), std::move(pending));
}

absl::Status WeightedRewards::CheckDataset(const Dataset& dataset, int width, int height) {
  for (const Term& term : terms_) {
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(term.reward->CheckDataset(dataset, width, height),
                                       absl::StrCat("reward '", term.config.name, "'")));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
