#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace imageddpo {

/// Gradient checkpointing (Chen et al., arXiv:1604.06174): a part of a network whose activations
/// are not kept for the backward pass but computed again in it.

/// A part of a network: the same bits whenever it is called with the same inputs.
using RecomputedPart = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

struct Recomputed {
  at::Tensor output;
  /// inputs[0], for whoever takes it as well: its gradient then adds up in the order that it would
  /// have had without recomputation, to the same bits.
  at::Tensor first_input;
};

/// Runs `part` without gradients and keeps its inputs alone; the backward pass runs it again, with
/// gradients, and goes on through what comes of it. Parameters that `part` holds and hooks that it
/// sets work as they do without; both are reached in that second run only. Gradients are the same
/// bits. To be called with grad mode on.
/// @param part    outlives the graph.
/// @param inputs  defined tensors that the part reads and does not change; a gradient goes to those
///                that require one. May be the same tensor.
Recomputed Recompute(RecomputedPart part, const std::vector<at::Tensor>& inputs);

}  // namespace imageddpo
