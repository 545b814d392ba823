#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// What to do with an item whose reward is NaN or infinite.
enum class NonFinitePolicy {
  kFail,  ///< Score() fails, naming reward, example and value.
  kMark,  ///< Score() succeeds; the item's value is NaN and its status says why.
};

struct WeightedOutput {
  at::Tensor values_B;  ///< [B] float64 on the CPU: sum of weight · value
  std::map<std::string, at::Tensor>
      parts;  ///< "<reward>.value" (unweighted) and "<reward>.<part>", [B] float64 on the CPU
  std::vector<absl::Status> statuses;  ///< B; all OK under kFail
};

/// The weighted sum of a job's rewards. Thread-compatible.
class WeightedRewards {
 public:
  /// INVALID_ARGUMENT when there is none. A second reward of the same name is called "<name>_2",
  /// and so on.
  static absl::StatusOr<WeightedRewards> Make(const std::vector<RewardConfig>& configs,
                                              at::Device device,
                                              NonFinitePolicy policy = NonFinitePolicy::kFail);

  struct Term {
    std::unique_ptr<Reward> reward;
    double weight = 1.0;
  };
  explicit WeightedRewards(std::vector<Term> terms,
                           NonFinitePolicy policy = NonFinitePolicy::kFail);

  absl::StatusOr<WeightedOutput> Score(const RewardInputs& inputs);
  absl::Status CheckDataset(const Dataset& dataset, int width, int height);

  /// Names of the terms, in order; the prefixes of the parts.
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<Term> terms_;
  std::vector<std::string> names_;
  NonFinitePolicy policy_;
};

}  // namespace imageddpo
