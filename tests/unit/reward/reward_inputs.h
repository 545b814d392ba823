#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <optional>
#include <string>
#include <vector>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// A batch for scoring that owns its examples, "ex0", "ex1", …
class Batch {
 public:
  Batch(at::Tensor generated_BCHW, at::Tensor inputs_BCHW,
        const std::vector<std::optional<int64_t>>& labels) {
    inputs_.generated_BCHW = std::move(generated_BCHW);
    inputs_.inputs_BCHW = std::move(inputs_BCHW);
    inputs_.prompts.resize(labels.size());
    for (size_t i = 0; i < labels.size(); ++i) {
      Example example;
      example.id = "ex" + std::to_string(i);
      example.file_name = "/data/" + example.id + ".png";
      example.label = labels[i];
      examples_.push_back(std::move(example));
    }
    for (const Example& example : examples_) inputs_.examples.push_back(&example);
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  /// `size` black images.
  static Batch OfBlackImages(int64_t size) {
    return {at::zeros({size, 3, 4, 4}), at::zeros({size, 3, 4, 4}),
            std::vector<std::optional<int64_t>>(static_cast<size_t>(size))};
  }

  RewardInputs& inputs() { return inputs_; }

 private:
  std::vector<Example> examples_;
  RewardInputs inputs_;
};

inline std::vector<double> ToVector(const at::Tensor& values_B) {
  const auto* data = values_B.const_data_ptr<double>();
  return {data, data + values_B.numel()};
}

}  // namespace imageddpo
