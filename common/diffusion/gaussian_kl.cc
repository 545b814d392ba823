#include "common/diffusion/gaussian_kl.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <stdexcept>

namespace imageddpo {

at::Tensor GaussianKl(const at::Tensor& mean_BCHW, const at::Tensor& other_mean_BCHW,
                      const at::Tensor& sigma_B) {
  if (!mean_BCHW.defined() || !other_mean_BCHW.defined() || !sigma_B.defined()) {
    throw std::invalid_argument("GaussianKl: a step without a mean or σ is not Gaussian");
  }
  if (mean_BCHW.dim() != 4 || mean_BCHW.sizes() != other_mean_BCHW.sizes() || sigma_B.dim() != 1 ||
      sigma_B.size(0) != mean_BCHW.size(0)) {
    throw std::invalid_argument("GaussianKl: the means must be [B,C,H,W] and σ [B]");
  }
  // contiguous(): the order of a sum follows the memory layout.
  const at::Tensor distance_B = (mean_BCHW.contiguous() - other_mean_BCHW.detach().contiguous())
                                    .pow(2)
                                    .sum(at::IntArrayRef({1, 2, 3}));
  // Where deterministic, a deviation of 1 keeps the unused branch finite.
  const at::Tensor is_random_B = sigma_B > 0;
  const at::Tensor safe_sigma_B = at::where(is_random_B, sigma_B, at::ones_like(sigma_B));
  return at::where(is_random_B, distance_B / (2.0 * safe_sigma_B.pow(2)), at::zeros_like(sigma_B));
}

}  // namespace imageddpo
