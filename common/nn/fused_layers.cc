#include "common/nn/fused_layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>

#include <algorithm>

#include "common/nn/recompute.h"

namespace imageddpo {
namespace {

using Inputs = std::vector<at::Tensor>;

/// The kernel's output; the gradients of its inputs are those of `composed`.
template <typename Kernel, typename Composed>
at::Tensor WithGradientsOf(const Composed& composed, const Kernel& kernel, const Inputs& inputs) {
  const bool with_graph = c10::GradMode::is_enabled() &&
                          std::any_of(inputs.begin(), inputs.end(),
                                      [](const at::Tensor& x) { return x.requires_grad(); });
  if (!with_graph) {
    const at::NoGradGuard no_grad;
    return kernel(inputs);
  }
  // The first run is without a graph, that of the backward pass with one.
  return Recompute(
             [composed, kernel](const Inputs& run_inputs) {
               return c10::GradMode::is_enabled() ? composed(run_inputs) : kernel(run_inputs);
             },
             inputs)
      .output;
}

at::Tensor Stacked(const Inputs& x_and_downs) {
  return x_and_downs.size() == 2
             ? x_and_downs[1]
             : at::cat(Inputs(x_and_downs.begin() + 1, x_and_downs.end()), /*dim=*/0);
}

}  // namespace

at::Tensor FusedGroupNorm(const GroupNorm& norm, const at::Tensor& x_BCHW, bool silu) {
  return WithGradientsOf(
      [norm, silu](const Inputs& inputs) {
        const at::Tensor y =
            at::group_norm(inputs[0], norm.groups, norm.weight_C, norm.bias_C, norm.eps);
        return silu ? at::silu(y) : y;
      },
      [norm, silu](const Inputs& inputs) {
        return norm.fused->GroupNorm(inputs[0], norm.weight_C, norm.bias_C, norm.groups, norm.eps,
                                     silu);
      },
      {x_BCHW});
}

at::Tensor FusedGeglu(const FusedKernels& fused, const at::Tensor& x) {
  return WithGradientsOf(
      [](const Inputs& inputs) {
        const Inputs halves = inputs[0].chunk(2, -1);
        return halves[0] * at::gelu(halves[1]);
      },
      [&fused](const Inputs& inputs) { return fused.Geglu(inputs[0]); }, {x});
}

at::Tensor FusedLoraDown(const FusedKernels& fused, const at::Tensor& x_NI,
                         const std::vector<at::Tensor>& downs_RI) {
  Inputs inputs = {x_NI};
  inputs.insert(inputs.end(), downs_RI.begin(), downs_RI.end());
  return WithGradientsOf(
      [](const Inputs& run_inputs) {
        return at::linear(run_inputs[0].to(at::kFloat), Stacked(run_inputs));
      },
      [&fused](const Inputs& run_inputs) {
        return fused.LoraDown(run_inputs[0], Stacked(run_inputs));
      },
      inputs);
}

}  // namespace imageddpo
