#include "trainer/loop/epoch_rewards.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"

namespace imageddpo {
namespace {

/// A part of all samples, in order.
absl::StatusOr<std::vector<double>> PartOf(const std::vector<TrajectoryBatch>& batches,
                                           const std::string& part) {
  std::vector<double> values;
  for (const TrajectoryBatch& batch : batches) {
    const auto found = std::find(batch.part_names.begin(), batch.part_names.end(), part);
    if (found == batch.part_names.end()) {
      return absl::InternalError(absl::StrCat("micro-batch ", batch.micro_batch, " of epoch ",
                                              batch.epoch, " has no part ", part));
    }
    const at::Tensor values_B =
        batch.parts_BP.select(1, found - batch.part_names.begin()).contiguous();
    const auto* begin = values_B.const_data_ptr<double>();
    values.insert(values.end(), begin, begin + values_B.numel());
  }
  return values;
}

absl::Status CheckDropped(const RewardConfig& reward, int64_t epoch,
                          const std::vector<TrajectoryBatch>& batches) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<double> dropped,
                             PartOf(batches, absl::StrCat(reward.name, ".dropped")));
  const auto count = std::count(dropped.begin(), dropped.end(), 1.0);
  if (static_cast<double>(count) <= reward.max_dropped * static_cast<double>(dropped.size())) {
    return absl::OkStatus();
  }
  std::string first;
  for (const TrajectoryBatch& batch : batches) {
    const auto why = batch.why_dropped.find(reward.name);
    if (why == batch.why_dropped.end()) continue;
    first = absl::StrCat("; the first, ", why->second);
    break;
  }
  const absl::Status error = absl::OutOfRangeError(absl::StrCat(
      "reward '", reward.name, "' has no finite value for ", count, " of the ", dropped.size(),
      " samples of epoch ", epoch, ", more than its `max_dropped` (", reward.max_dropped,
      ") allows", first,
      "; correct the reward and continue with `imageddpo resume`, which scores the epoch anew; if "
      "training has made the generated images unusable, go back with `--from-epoch`, or submit the "
      "job with a lower `train.learning_rate`"));
  return PausesJob(error, "");
}

template <typename T>
void Select(const std::vector<bool>& stays, std::vector<T>* values) {
  std::vector<T> kept;
  for (size_t i = 0; i < values->size(); ++i) {
    if (stays[i]) kept.push_back(std::move((*values)[i]));
  }
  *values = std::move(kept);
}

}  // namespace

void EpochScores::Keep(const std::vector<bool>& stays) {
  size_t next = 0;
  for (size_t i = 0; i < is_kept.size(); ++i) {
    if (is_kept[i]) is_kept[i] = stays.at(next++);
  }
  Select(stays, &rewards.rewards);
  Select(stays, &rewards.image_ids);
  Select(stays, &rewards.prompts);
  Select(stays, &rewards.groups);
  for (RewardTerm& term : rewards.terms) Select(stays, &term.values);
  for (std::vector<double>& values : values_TN) Select(stays, &values);
}

std::vector<double> EpochScores::ForAll(const std::vector<double>& of_kept) const {
  std::vector<double> all;
  size_t next = 0;
  for (const bool kept : is_kept) all.push_back(kept ? of_kept.at(next++) : 0.0);
  return all;
}

absl::StatusOr<EpochScores> ScoresOf(const ResolvedJob& job, int64_t epoch,
                                     const std::vector<TrajectoryBatch>& batches,
                                     const std::vector<std::string>& parts) {
  EpochScores scores;
  EpochRewards& all = scores.rewards;
  for (const TrajectoryBatch& batch : batches) {
    const auto* values = batch.rewards_B.const_data_ptr<double>();
    all.rewards.insert(all.rewards.end(), values, values + batch.rewards_B.numel());
    all.image_ids.insert(all.image_ids.end(), batch.image_ids.begin(), batch.image_ids.end());
    all.prompts.insert(all.prompts.end(), batch.prompts.begin(), batch.prompts.end());
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      all.groups.push_back(job.plan().GroupOf(batch.first_sample + i));
    }
  }
  for (const std::string& part : parts) {
    IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<double> values, PartOf(batches, part));
    scores.values_TN.push_back(std::move(values));
  }
  bool may_drop = false;
  for (const RewardConfig& reward : job.rewards()) {
    if (!reward.drops() || !reward.is_trained()) continue;
    may_drop = true;
    IMAGEDDPO_RETURN_IF_ERROR(CheckDropped(reward, epoch, batches));
  }
  scores.is_kept.assign(all.rewards.size(), true);
  if (!may_drop) return scores;
  std::vector<bool> has_reward;
  for (const double reward : all.rewards) has_reward.push_back(!std::isnan(reward));
  if (std::find(has_reward.begin(), has_reward.end(), true) == has_reward.end()) {
    return PausesJob(
        absl::OutOfRangeError(absl::StrCat(
            "no sample of epoch ", epoch,
            " has a finite value of every reward; correct the rewards and continue with "
            "`imageddpo resume`, which scores the epoch anew")),
        "");
  }
  scores.Keep(has_reward);
  return scores;
}

std::map<std::string, double> MeansOfParts(const std::vector<TrajectoryBatch>& batches) {
  std::map<std::string, double> means;
  for (size_t p = 0; p < batches.front().part_names.size(); ++p) {
    double sum = 0;
    int64_t count = 0;
    for (const TrajectoryBatch& batch : batches) {
      at::Tensor numbers = batch.parts_BP.select(1, static_cast<int64_t>(p));
      const at::Tensor is_nan = numbers.isnan();
      if (is_nan.any().item<bool>()) numbers = numbers.masked_select(is_nan.logical_not());
      sum += numbers.sum().item<double>();
      count += numbers.numel();
    }
    means[batches.front().part_names[p]] = sum / static_cast<double>(count);
  }
  return means;
}

}  // namespace imageddpo
