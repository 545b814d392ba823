#include "trainer/loop/update_numbers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "common/device/copies.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/moments.h"

namespace imageddpo {
namespace {

/// The q-quantile of values in ascending order, linear between two of them.
double Quantile(const std::vector<double>& ascending, double q) {
  const double position = q * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  const double share = position - static_cast<double>(below);
  return ascending[below] + share * (ascending[above] - ascending[below]);
}

/// The distance of flat values of a LoRA from others: both [P] on its device; 0-d float32 there.
at::Tensor Distance(const Lora& lora, const at::Tensor& values_P, const at::Tensor& from_P) {
  return NormOf(SplitLike(values_P - from_P, lora.Parameters()));
}

}  // namespace

at::Tensor ReadNumbers(const std::map<int64_t, at::Tensor>& numbers_of, int64_t num_micro,
                       int64_t num_steps) {
  const at::Tensor numbers = at::zeros({num_micro, num_steps, kNumbersPerStep}, at::kDouble);
  std::vector<at::Tensor> own;
  for (const auto& [position, numbers_KN] : numbers_of) own.push_back(numbers_KN);
  own = ReadTogether(own);
  size_t next = 0;
  for (const auto& [position, numbers_KN] : numbers_of) {
    numbers.select(0, position).copy_(own[next++]);
  }
  return numbers;
}

void SetKl(const TrustRegionSettings& region, const at::Tensor& kl_NK4, v1::EpochMetrics* metrics) {
  const at::Tensor means = kl_NK4.mean(at::IntArrayRef{0, 1});
  const auto* values = means.const_data_ptr<double>();
  if (region.kind == TrustRegion::kKl) {
    metrics->set_kl_step_mean(values[0]);
    metrics->set_kl_step_max(kl_NK4.select(2, 1).max().item<double>());
    metrics->set_masked_fraction(values[2]);
  }
  if (region.kl_coef > 0) metrics->set_kl_to_base(values[3]);
}

void SetRatios(std::optional<int64_t> sample_age, const at::Tensor& means,
               v1::EpochMetrics* metrics) {
  const auto* values = means.const_data_ptr<double>();
  const auto spread = [](double mean, double square) {
    return std::sqrt(std::max(0.0, square - mean * mean));
  };
  if (sample_age) {
    metrics->set_sample_age(*sample_age);
    metrics->set_behaviour_ratio_mean(1 + values[0]);
    metrics->set_behaviour_ratio_std(spread(values[0], values[1]));
  }
  metrics->set_proximal_ratio_mean(1 + values[2]);
  metrics->set_proximal_ratio_std(spread(values[2], values[3]));
}

void SetRewardSpread(const std::vector<double>& rewards, v1::EpochMetrics* metrics) {
  const bool finite = std::all_of(rewards.begin(), rewards.end(),
                                  [](double reward) { return std::isfinite(reward); });
  if (rewards.empty() || !finite) return;
  std::vector<double> ascending = rewards;
  std::sort(ascending.begin(), ascending.end());
  metrics->set_reward_min(ascending.front());
  metrics->set_reward_p10(Quantile(ascending, 0.1));
  metrics->set_reward_median(Quantile(ascending, 0.5));
  metrics->set_reward_p90(Quantile(ascending, 0.9));
  metrics->set_reward_max(ascending.back());
}

void SetAdvantageSpread(const std::vector<double>& advantages, size_t num_samples,
                        v1::EpochMetrics* metrics) {
  double largest = 0;
  for (const double advantage : advantages) largest = std::max(largest, std::abs(advantage));
  metrics->set_advantage_std(MomentsOf(advantages).std);
  metrics->set_advantage_max(largest);
  metrics->set_left_out_fraction(static_cast<double>(num_samples - advantages.size()) /
                                 static_cast<double>(num_samples));
}

void UpdateNorms::Begin() { before_P_ = lora_.Flatten(); }

void UpdateNorms::End(const WeightAverage* average) {
  const at::Tensor values_P = lora_.Flatten();
  moved_.push_back(Distance(lora_, values_P, before_P_));
  before_P_ = at::Tensor();
  if (average != nullptr) from_average_.push_back(Distance(lora_, values_P, average->values()));
}

void UpdateNorms::TakeInto(std::vector<v1::EpochMetrics>* rows) {
  std::vector<at::Tensor> norms = moved_;
  norms.insert(norms.end(), from_average_.begin(), from_average_.end());
  const at::Tensor on_host = at::stack(norms).cpu();
  const auto* values = on_host.const_data_ptr<float>();
  for (size_t i = 0; i < rows->size(); ++i) {
    (*rows)[i].set_update_norm(values[i]);
    if (!from_average_.empty()) (*rows)[i].set_ema_distance(values[rows->size() + i]);
  }
  moved_.clear();
  from_average_.clear();
}

}  // namespace imageddpo
