#include "rollout/reward/weighted_rewards.h"

#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "rollout/reward/make_reward.h"

namespace imageddpo {
namespace {

absl::Status CheckInputs(const RewardInputs& inputs) {
  const auto bad = [](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("cannot score: ", what));
  };
  const at::Tensor& generated = inputs.generated_BCHW;
  if (!generated.defined() || generated.dim() != 4 || generated.size(1) != 3) {
    return bad("the generated images are not a tensor [B, 3, H, W]");
  }
  if (!inputs.inputs_BCHW.defined() || inputs.inputs_BCHW.dim() != 4 ||
      inputs.inputs_BCHW.size(0) != generated.size(0) || inputs.inputs_BCHW.size(1) != 3) {
    return bad("the input images are not a tensor [B, 3, H, W] of as many images as generated");
  }
  const auto num_items = static_cast<size_t>(generated.size(0));
  if (inputs.prompts.size() != num_items || inputs.examples.size() != num_items) {
    return bad(absl::StrCat(num_items, " images, but ", inputs.prompts.size(), " prompts and ",
                            inputs.examples.size(), " examples"));
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const RewardOutput& output, int64_t num_items, const std::string& name) {
  const auto fits = [num_items](const at::Tensor& tensor) {
    return tensor.defined() && tensor.dim() == 1 && tensor.size(0) == num_items;
  };
  bool all_fit = fits(output.values_B);
  for (const auto& [part, values] : output.parts) all_fit = all_fit && fits(values);
  if (all_fit) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the reward '", name, "' did not return one value per image"));
}

}  // namespace

absl::StatusOr<WeightedRewards> WeightedRewards::Make(const std::vector<RewardConfig>& configs,
                                                      at::Device device, NonFinitePolicy policy) {
  if (configs.empty()) {
    return absl::InvalidArgumentError("rewards is empty; a job needs at least one reward");
  }
  std::vector<Term> terms;
  for (const RewardConfig& config : configs) {
    IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<Reward> reward, MakeReward(config, device));
    terms.push_back({std::move(reward), config.weight});
  }
  return WeightedRewards(std::move(terms), policy);
}

WeightedRewards::WeightedRewards(std::vector<Term> terms, NonFinitePolicy policy)
    : terms_(std::move(terms)), policy_(policy) {
  std::map<std::string, int> uses;
  for (const Term& term : terms_) {
    const int use = ++uses[term.reward->name()];
    names_.push_back(use == 1 ? term.reward->name() : absl::StrCat(term.reward->name(), "_", use));
  }
}

absl::StatusOr<WeightedOutput> WeightedRewards::Score(const RewardInputs& inputs) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckInputs(inputs));
  const int64_t num_items = inputs.generated_BCHW.size(0);
  WeightedOutput sum;
  sum.values_B = at::zeros({num_items}, at::kDouble);
  sum.statuses.resize(static_cast<size_t>(num_items));
  auto* sums = sum.values_B.data_ptr<double>();

  for (size_t term = 0; term < terms_.size(); ++term) {
    const std::string& name = names_[term];
    absl::StatusOr<RewardOutput> output = terms_[term].reward->Score(inputs);
    if (!output.ok()) return Annotate(output.status(), absl::StrCat("reward '", name, "'"));
    IMAGEDDPO_RETURN_IF_ERROR(CheckOutput(*output, num_items, name));

    const at::Tensor values = output->values_B.to(at::kCPU, at::kDouble).contiguous();
    for (int64_t i = 0; i < num_items; ++i) {
      const double value = values.const_data_ptr<double>()[i];
      if (!std::isfinite(value)) {
        const Example& example = *inputs.examples[static_cast<size_t>(i)];
        absl::Status status = absl::OutOfRangeError(
            absl::StrCat("reward '", name, "' of example '", example.id, "' is ", value));
        if (policy_ == NonFinitePolicy::kFail) return status;
        sum.statuses[static_cast<size_t>(i)].Update(status);
        sums[i] = std::numeric_limits<double>::quiet_NaN();
      } else {
        sums[i] += terms_[term].weight * value;
      }
    }
    sum.parts.emplace(absl::StrCat(name, ".value"), values);
    for (const auto& [part, part_values] : output->parts) {
      sum.parts.emplace(absl::StrCat(name, ".", part),
                        part_values.to(at::kCPU, at::kDouble).contiguous());
    }
  }
  return sum;
}

absl::Status WeightedRewards::CheckDataset(const Dataset& dataset, int width, int height) {
  for (size_t term = 0; term < terms_.size(); ++term) {
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(terms_[term].reward->CheckDataset(dataset, width, height),
                                       absl::StrCat("reward '", names_[term], "'")));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
