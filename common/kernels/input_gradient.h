#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace imageddpo {

/// Makes y, computed from x without a graph, a function of x in the graph, by its gradient. No
/// second derivatives. Without gradients (GradMode), or where x needs none, y stays as it is.
/// @param input_gradient  from y's gradient to x's; called without GradMode, at most once for each
///                        backward pass.
/// @return y
at::Tensor WithInputGradient(const at::Tensor& x, at::Tensor y,
                             std::function<at::Tensor(const at::Tensor&)> input_gradient);

}  // namespace imageddpo
