#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// What a model says of a batch of N images.
struct ProbeScores {
  at::Tensor values_NP;            ///< [N,P] as the model returned them, any floating-point type
  std::vector<std::string> names;  ///< [P]: of the columns, for messages
  int64_t must_be_finite = -1;     ///< The column that has to be finite; -1: all.
};

using ProbeFunction =
    std::function<absl::StatusOr<ProbeScores>(const std::shared_ptr<const RewardBatch>&)>;

/// Tries a model on a few made-up pictures of width × height before a job trusts it: the score of
/// a picture must depend on the picture alone, not on chance and not on the pictures beside it.
/// That finds models that were exported in training mode (dropout and batch normalisation at work)
/// or traced for one size of batch. Differences as small as rounding makes are accepted: calls with
/// other numbers of images may differ by a percent of the column's largest value (5 in 16-bit
/// types), the same call twice by a hundredth of that; where it does differ, the job is warned.
/// @param path     of the model, for messages.
/// @param dataset  whose first examples (labels, texts) go with the pictures.
/// @param score    called with one picture and with several.
/// @param warn     shows a warning with the job.
/// @return INVALID_ARGUMENT with the remedy, or what `score` returned for one picture.
absl::Status ProbeScoring(const std::string& path, const Dataset& dataset, int width, int height,
                          const ProbeFunction& score,
                          const std::function<void(const std::string&)>& warn);

}  // namespace imageddpo
