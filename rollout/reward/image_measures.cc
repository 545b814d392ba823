#include "rollout/reward/image_measures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/config/reward_types.h"

namespace imageddpo {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kSmallestError = 1e-10;  // Of PSNR.
constexpr int kColourLevels = 8;          // Of a channel.

/// A picture's values as doubles on the CPU.
struct Pixels {
  explicit Pixels(const at::Tensor& image_CHW)
      : values_CHW(image_CHW.to(at::kCPU, at::kDouble).contiguous()) {
    if (values_CHW.dim() != 3 || values_CHW.size(0) != 3 || values_CHW.numel() == 0) {
      throw std::invalid_argument("image measures: a picture must be a tensor [3, H, W]");
    }
  }
  int64_t height() const { return values_CHW.size(1); }
  int64_t width() const { return values_CHW.size(2); }
  int64_t size() const { return height() * width(); }  ///< Pixels.
  const double* channel(int64_t c) const {
    return values_CHW.const_data_ptr<double>() + c * size();
  }
  bool is_finite() const {
    const double* const values = channel(0);
    return std::all_of(values, values + 3 * size(), [](double v) { return std::isfinite(v); });
  }
  void Require(const char* measure, int64_t side) const {
    if (std::min(height(), width()) >= side) return;
    throw std::invalid_argument(absl::StrCat(measure, " needs ", side, " pixels on each side"));
  }

  at::Tensor values_CHW;
};

/// Mean of `difference(a, b)` over all values.
template <typename Difference>
double MeanOver(const at::Tensor& a_CHW, const at::Tensor& b_CHW, const Difference& difference) {
  const Pixels a(a_CHW), b(b_CHW);
  if (a.values_CHW.sizes() != b.values_CHW.sizes()) {
    throw std::invalid_argument("image measures: the pictures' sizes differ");
  }
  const int64_t count = 3 * a.size();
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += difference(a.channel(0)[i], b.channel(0)[i]);
  const double mean = sum / static_cast<double>(count);
  return std::isfinite(mean) ? mean : kNan;
}

std::array<double, kSsimWindow> SsimWeights() {
  constexpr double kSigma = 1.5;
  std::array<double, kSsimWindow> weights{};
  double sum = 0;
  for (int i = 0; i < kSsimWindow; ++i) {
    const double distance = i - kSsimWindow / 2;
    weights[static_cast<size_t>(i)] = std::exp(-0.5 * distance * distance / (kSigma * kSigma));
    sum += weights[static_cast<size_t>(i)];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// The window's mean at each place where it lies in the plane.
/// @param plane  height × width values; the result has kSsimWindow − 1 fewer of each.
std::vector<double> WindowMeans(const std::vector<double>& plane, int64_t height, int64_t width) {
  static const std::array<double, kSsimWindow> weights = SsimWeights();
  const int64_t out_width = width - kSsimWindow + 1, out_height = height - kSsimWindow + 1;
  std::vector<double> across(static_cast<size_t>(height * out_width));
  for (int64_t y = 0; y < height; ++y) {
    for (size_t k = 0; k < kSsimWindow; ++k) {
      const double* const from = plane.data() + y * width + static_cast<int64_t>(k);
      double* const to = across.data() + y * out_width;
      for (int64_t x = 0; x < out_width; ++x) to[x] += weights[k] * from[x];
    }
  }
  std::vector<double> means(static_cast<size_t>(out_height * out_width));
  for (int64_t y = 0; y < out_height; ++y) {
    for (size_t k = 0; k < kSsimWindow; ++k) {
      const double* const from = across.data() + (y + static_cast<int64_t>(k)) * out_width;
      double* const to = means.data() + y * out_width;
      for (int64_t x = 0; x < out_width; ++x) to[x] += weights[k] * from[x];
    }
  }
  return means;
}

double SsimOfChannel(const double* a, const double* b, int64_t height, int64_t width) {
  constexpr double kC1 = 0.01 * 0.01, kC2 = 0.03 * 0.03;
  const auto means_of = [&](const auto& product) {
    std::vector<double> plane(static_cast<size_t>(height * width));
    for (size_t i = 0; i < plane.size(); ++i) plane[i] = product(a[i], b[i]);
    return WindowMeans(plane, height, width);
  };
  const std::vector<double> mean_a = means_of([](double x, double) { return x; });
  const std::vector<double> mean_b = means_of([](double, double y) { return y; });
  const std::vector<double> mean_aa = means_of([](double x, double) { return x * x; });
  const std::vector<double> mean_bb = means_of([](double, double y) { return y * y; });
  const std::vector<double> mean_ab = means_of([](double x, double y) { return x * y; });
  double sum = 0;
  for (size_t i = 0; i < mean_a.size(); ++i) {
    const double squares = mean_a[i] * mean_a[i] + mean_b[i] * mean_b[i];
    const double variances = mean_aa[i] + mean_bb[i] - squares;
    const double product = mean_a[i] * mean_b[i];
    sum += (2 * product + kC1) * (2 * (mean_ab[i] - product) + kC2) /
           ((squares + kC1) * (variances + kC2));
  }
  return sum / static_cast<double>(mean_a.size());
}

/// The luma of each pixel.
std::vector<double> LumaOf(const Pixels& pixels) {
  std::vector<double> luma(static_cast<size_t>(pixels.size()));
  for (int64_t i = 0; i < pixels.size(); ++i) {
    luma[static_cast<size_t>(i)] =
        0.299 * pixels.channel(0)[i] + 0.587 * pixels.channel(1)[i] + 0.114 * pixels.channel(2)[i];
  }
  return luma;
}

double MeanOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

double L1Distance(const at::Tensor& a_CHW, const at::Tensor& b_CHW) {
  return MeanOver(a_CHW, b_CHW, [](double a, double b) { return std::abs(a - b); });
}

double L2Distance(const at::Tensor& a_CHW, const at::Tensor& b_CHW) {
  return MeanOver(a_CHW, b_CHW, [](double a, double b) { return (a - b) * (a - b); });
}

double Psnr(const at::Tensor& a_CHW, const at::Tensor& b_CHW) {
  const double error = L2Distance(a_CHW, b_CHW);
  return std::isnan(error) ? kNan : -10 * std::log10(std::max(error, kSmallestError));
}

double Ssim(const at::Tensor& a_CHW, const at::Tensor& b_CHW) {
  const Pixels a(a_CHW), b(b_CHW);
  if (a.values_CHW.sizes() != b.values_CHW.sizes()) {
    throw std::invalid_argument("image measures: the pictures' sizes differ");
  }
  a.Require("ssim", kSsimWindow);
  if (!a.is_finite() || !b.is_finite()) return kNan;
  double sum = 0;
  for (int64_t c = 0; c < 3; ++c) {
    sum += SsimOfChannel(a.channel(c), b.channel(c), a.height(), a.width());
  }
  return sum / 3;
}

double Brightness(const at::Tensor& image_CHW) {
  const Pixels pixels(image_CHW);
  return pixels.is_finite() ? MeanOf(LumaOf(pixels)) : kNan;
}

double Contrast(const at::Tensor& image_CHW) {
  const Pixels pixels(image_CHW);
  if (!pixels.is_finite()) return kNan;
  const std::vector<double> luma = LumaOf(pixels);
  const double mean = MeanOf(luma);
  double squares = 0;
  for (const double value : luma) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(luma.size()));
}

double EdgeEnergy(const at::Tensor& image_CHW) {
  const Pixels pixels(image_CHW);
  pixels.Require("edge_energy", kSobelWindow);
  if (!pixels.is_finite()) return kNan;
  const std::vector<double> luma = LumaOf(pixels);
  const int64_t width = pixels.width(), height = pixels.height();
  double sum = 0;
  for (int64_t y = 1; y + 1 < height; ++y) {
    const double* const above = luma.data() + (y - 1) * width;
    const double* const at = above + width;
    const double* const below = at + width;
    for (int64_t x = 1; x + 1 < width; ++x) {
      const double gx =
          above[x + 1] - above[x - 1] + 2 * (at[x + 1] - at[x - 1]) + below[x + 1] - below[x - 1];
      const double gy =
          below[x - 1] - above[x - 1] + 2 * (below[x] - above[x]) + below[x + 1] - above[x + 1];
      sum += (gx * gx + gy * gy) / 64;
    }
  }
  return sum / static_cast<double>((width - 2) * (height - 2));
}

double Saturation(const at::Tensor& image_CHW) {
  const Pixels pixels(image_CHW);
  if (!pixels.is_finite()) return kNan;
  double sum = 0;
  for (int64_t i = 0; i < pixels.size(); ++i) {
    const auto [least, most] =
        std::minmax({pixels.channel(0)[i], pixels.channel(1)[i], pixels.channel(2)[i]});
    if (most > 0) sum += (most - least) / most;
  }
  return sum / static_cast<double>(pixels.size());
}

double ColourEntropy(const at::Tensor& image_CHW) {
  const Pixels pixels(image_CHW);
  if (!pixels.is_finite()) return kNan;
  std::array<int64_t, kColourLevels * kColourLevels * kColourLevels> counts{};
  for (int64_t i = 0; i < pixels.size(); ++i) {
    size_t colour = 0;
    for (int64_t c = 0; c < 3; ++c) {
      const double level = std::clamp(std::floor(pixels.channel(c)[i] * kColourLevels), 0.0,
                                      static_cast<double>(kColourLevels - 1));
      colour = colour * kColourLevels + static_cast<size_t>(level);
    }
    ++counts[colour];
  }
  double entropy = 0;
  for (const int64_t count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / static_cast<double>(pixels.size());
    entropy -= share * std::log2(share);
  }
  return entropy;
}

}  // namespace imageddpo
