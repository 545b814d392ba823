#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace imageddpo {

/// What an attention layer reads of its context: [R rows, S positions, D].
struct KeysValues {
  at::Tensor key_RSD, value_RSD;
};

/// A text as the UNet's attention layers read it. It follows from the prompts and the LoRA alone,
/// so that one serves all steps of a micro-batch. As made, a backward pass through a step goes on
/// into the projections and frees their graph: good for one step. Cut() makes it good for many.
class ProjectedText {
 public:
  /// In the order of Attention::text_index.
  void Add(KeysValues layer) { layers_.push_back(std::move(layer)); }

  KeysValues operator[](size_t text_index) const;

  /// Backward passes through steps end here from now on; Backward() takes their sum further.
  /// Nothing where nothing requires gradients.
  void Cut();
  /// Back-propagates what the steps have left since Cut(), once, after the last one.
  void Backward();

 private:
  std::vector<KeysValues> layers_;
  std::vector<KeysValues> sources_;  ///< Of layers_, once they are cut.
};

}  // namespace imageddpo
