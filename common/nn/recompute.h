#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace imageddpo {

// Gradient checkpointing (Chen et al., arXiv:1604.06174): the activations of a part of a network
// are not kept for the backward pass, but computed again in it.

/// A part of a network. Must return the same bits whenever it is called with the same inputs.
using RecomputedPart = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

struct Recomputed {
  at::Tensor output;  ///< Of the part, attached to the graph.
  /// inputs[0], attached to the graph of this part. Pass it, instead of inputs[0], to later users
  /// of that input, such as a skip connection: its gradients are then added in the same order as
  /// without recomputation, which keeps them bit-equal.
  at::Tensor first_input;
};

/// Runs `part` without a graph and saves its inputs only. The backward pass runs `part` again, with
/// a graph, and back-propagates through that graph at once. Gradients have the same bits as without
/// recomputation. Parameters that `part` uses get their gradients, and hooks that it sets are
/// called, in the second run only. Call it with grad mode on.
/// @param part    is copied into the graph; what it refers to must outlive the graph.
/// @param inputs  defined tensors, not empty, which the part does not change; those that require
///                gradients get one. A tensor may occur twice.
Recomputed Recompute(RecomputedPart part, const std::vector<at::Tensor>& inputs);

}  // namespace imageddpo
