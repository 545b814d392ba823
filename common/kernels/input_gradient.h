#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace imageddpo {

/// Attaches y, which was computed from x without a graph, to the graph of x, with a gradient
/// function of its own. First derivatives only. Returns y unchanged without GradMode, or if x does
/// not require gradients.
/// @param input_gradient  computes the gradient of x from that of y; called without GradMode, at
///                        most once for each backward pass.
/// @return y
at::Tensor WithInputGradient(const at::Tensor& x, at::Tensor y,
                             std::function<at::Tensor(const at::Tensor&)> input_gradient);

}  // namespace imageddpo
