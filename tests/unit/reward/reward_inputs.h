#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// A batch for scoring, of the examples "ex0", "ex1", …
inline std::shared_ptr<RewardBatch> MakeBatch(at::Tensor generated_BCHW, at::Tensor inputs_BCHW,
                                              const std::vector<std::optional<int64_t>>& labels) {
  auto batch = std::make_shared<RewardBatch>();
  batch->generated_BCHW = std::move(generated_BCHW);
  batch->inputs_BCHW = std::move(inputs_BCHW);
  batch->prompts.resize(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    Example example;
    example.id = "ex" + std::to_string(i);
    example.file_name = "/data/" + example.id + ".png";
    example.label = labels[i];
    batch->examples.push_back(std::move(example));
  }
  return batch;
}

inline std::shared_ptr<RewardBatch> BlackImages(int64_t size) {
  return MakeBatch(at::zeros({size, 3, 4, 4}), at::zeros({size, 3, 4, 4}),
                   std::vector<std::optional<int64_t>>(static_cast<size_t>(size)));
}

/// The values of items that all have one.
inline std::vector<double> ValuesOf(const RewardOutput& output) {
  std::vector<double> values;
  for (const absl::StatusOr<double>& value : output.values_B) values.push_back(value.value());
  return values;
}

}  // namespace imageddpo
