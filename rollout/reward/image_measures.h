#pragma once

#include <ATen/core/Tensor.h>

// Numbers of one picture, or of two that are compared. A picture is a tensor [3,H,W] of RGB values
// in [0,1], floating point, on any device; the two have one size. Everything is computed in double
// on the calling thread, pixel after pixel, so the same pictures give the same bits everywhere. A
// picture with NaN or infinity in it has the value NaN.
namespace imageddpo {

/// Mean of |a − b| over pixels and channels: 0 to 1.
double L1Distance(const at::Tensor& a_CHW, const at::Tensor& b_CHW);

/// Mean of (a − b)² over pixels and channels: 0 to 1.
double L2Distance(const at::Tensor& a_CHW, const at::Tensor& b_CHW);

/// Peak signal-to-noise ratio in dB: 10·log10(1 / max(L2Distance, 1e-10)). The floor makes it 100
/// for equal pictures, whose ratio is infinite.
double Psnr(const at::Tensor& a_CHW, const at::Tensor& b_CHW);

/// Structural similarity (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13(4), 2004), −1 to 1; 1 for
/// equal pictures. With means μ, variances σ² and covariance σ_ab under a gaussian window of 11×11
/// pixels and standard deviation 1.5:
///
///   S = (2·μ_a·μ_b + C1)·(2·σ_ab + C2) / ((μ_a² + μ_b² + C1)·(σ_a² + σ_b² + C2))
///   C1 = 0.01², C2 = 0.03²
///
/// and the value is the mean of S over the windows that lie in the picture, and over the channels.
/// It is scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, channel_axis=0, data_range=1).
/// @throws std::invalid_argument  a side below kSsimWindow (common/config/reward_types.h).
double Ssim(const at::Tensor& a_CHW, const at::Tensor& b_CHW);

// In the next three, Y = 0.299·R + 0.587·G + 0.114·B, the luma of BT.601.

/// Mean of Y: 0 to 1.
double Brightness(const at::Tensor& image_CHW);

/// Standard deviation of Y over the picture's pixels (of the population): 0 to 0.5.
double Contrast(const at::Tensor& image_CHW);

/// Each side must have this many pixels for EdgeEnergy().
inline constexpr int kSobelWindow = 3;

/// Mean of Gx² + Gy² over the pixels that have eight neighbours, where Gx and Gy are Y's
/// derivatives by Sobel's operators divided by 8: s² for a ramp that rises by s a pixel.
/// @throws std::invalid_argument  a side below kSobelWindow.
double EdgeEnergy(const at::Tensor& image_CHW);

/// Mean of HSV's saturation (max − min) / max of each pixel's channels, 0 for black: 0 to 1.
double Saturation(const at::Tensor& image_CHW);

/// Shannon's entropy in bits of the picture's colours, each channel in 8 equal levels: 0 (one
/// colour) to 9 (all 512 equally often).
double ColourEntropy(const at::Tensor& image_CHW);

}  // namespace imageddpo
