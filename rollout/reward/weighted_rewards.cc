#include "rollout/reward/weighted_rewards.h"

#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

/// The sum of terms that are pending.
class PendingSum final : public PendingReward {
 public:
  struct Term {
    std::string name;
    double weight;
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
        return Annotate(output.status(), absl::StrCat("reward '", term.name, "'"));
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
    std::vector<double> values_B;
    for (size_t i = 0; i < output.values_B.size(); ++i) {
      absl::StatusOr<double>& value = output.values_B[i];
      values_B.push_back(value.ok() ? *value : std::numeric_limits<double>::quiet_NaN());
      if (value.ok() && !std::isfinite(*value)) {
        value = absl::OutOfRangeError(absl::StrCat("the value ", *value, " is not finite"));
      }
      absl::StatusOr<double>& sum = sum_.values_B[i];
      if (!sum.ok()) continue;
      if (value.ok()) {
        *sum += term.weight * *value;
      } else {
        sum = Annotate(value.status(), absl::StrCat("reward '", term.name, "' of image '",
                                                    batch_->examples[i].id, "'"));
      }
    }
    sum_.parts.emplace(absl::StrCat(term.name, ".value"), std::move(values_B));
    for (auto& [part, numbers_B] : output.parts) {
      sum_.parts.emplace(absl::StrCat(term.name, ".", part), std::move(numbers_B));
    }
  }

  std::shared_ptr<const RewardBatch> batch_;
  std::vector<Term> terms_;
  RewardOutput sum_;
  size_t num_added_ = 0;  // Terms that are in the sum: after a timeout, Wait() goes on from there.
};

}  // namespace

WeightedRewards::WeightedRewards(std::vector<Term> terms) : terms_(std::move(terms)) {
  std::map<std::string, int> uses;
  for (const Term& term : terms_) {
    const std::string name = term.name.empty() ? term.reward->name() : term.name;
    const int use = ++uses[name];
    names_.push_back(use == 1 ? name : absl::StrCat(name, "_", use));
  }
}

std::unique_ptr<PendingReward> WeightedRewards::Start(std::shared_ptr<const RewardBatch> batch) {
  std::vector<PendingSum::Term> pending;
  for (size_t i = 0; i < terms_.size(); ++i) {
    pending.push_back({names_[i], terms_[i].weight, terms_[i].reward->Start(batch)});
  }
  return std::make_unique<PendingSum>(std::move(batch), std::move(pending));
}

absl::Status WeightedRewards::CheckDataset(const Dataset& dataset, int width, int height) {
  for (size_t i = 0; i < terms_.size(); ++i) {
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(terms_[i].reward->CheckDataset(dataset, width, height),
                                       absl::StrCat("reward '", names_[i], "'")));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
