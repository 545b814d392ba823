#pragma once

#include <ATen/core/Tensor.h>

namespace imageddpo {

/// The divergence of two Gaussian steps from the same latents, which differ in their means alone:
///
///   KL(N(mean, σ²) ‖ N(other_mean, σ²)) = Σ over C, H, W of (mean - other_mean)² / (2σ²)
///
/// in nats. Exact, symmetric, and of the whole step: a log-probability here is a mean over the
/// latent's values, so its differences are smaller by their number.
///
/// Shapes: B samples, C H W latents.
/// @param mean_BCHW        float32; gradients flow into it.
/// @param other_mean_BCHW  float32, same shape and device, a constant.
/// @param sigma_B          float32; 0 where the step is deterministic.
/// @return [B] float32; 0 without gradient where the step is deterministic.
/// @throws std::invalid_argument  a mean is undefined (the step is not Gaussian), or shapes differ.
at::Tensor GaussianKl(const at::Tensor& mean_BCHW, const at::Tensor& other_mean_BCHW,
                      const at::Tensor& sigma_B);

}  // namespace imageddpo
