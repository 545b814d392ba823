#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace imageddpo {

/// The keys and values of one attention layer: [R rows, S positions, D].
struct KeysValues {
  at::Tensor key_RSD, value_RSD;
};

/// The keys and values of all attention layers that read the text. They depend only on the prompts
/// and the LoRA, so one object serves all steps of a micro-batch. Before Cut(), the backward pass
/// of a step continues into the projections and frees their graph, so that only one step can use
/// it; after Cut(), any number can.
class ProjectedText {
 public:
  /// Adds the next layer; in the order of Attention::text_index.
  void Add(KeysValues layer) { layers_.push_back(std::move(layer)); }

  KeysValues operator[](size_t text_index) const;

  /// From now on the backward passes of steps end here, and their gradients are summed. Does
  /// nothing if nothing requires gradients.
  void Cut();
  /// Back-propagates the sum through the projections. Call it once, after the last step.
  void Backward();

 private:
  std::vector<KeysValues> layers_;
  std::vector<KeysValues> sources_;  ///< After Cut(): the projections' own outputs.
};

}  // namespace imageddpo
