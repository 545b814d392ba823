#include "common/kernels/winograd.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "common/kernels/input_gradient.h"
#include "common/kernels/processor.h"
#include "common/kernels/threads.h"
#include "common/kernels/winograd_kernel.h"
#include "common/kernels/workspace.h"

namespace imageddpo {
namespace {

/// Bytes of transformed patches, and of transformed filters with the images they yield, that are
/// under way at once: what the caches hold.
constexpr int64_t kMostPatchBytes = int64_t{24} << 20;
constexpr int64_t kMostBlockBytes = int64_t{8} << 20;
constexpr int64_t kLeastTiles = 128;  ///< At once: with fewer, products are no longer fast.
constexpr int64_t kFilterTaps = 9;

/// What WinogradTile() goes by; measured, see docs/kernels.md.
constexpr int64_t kChannelMultiple = 32;
constexpr int64_t kLeastChannels = 256, kLeastPositions = 256;                 ///< Tile 2.
constexpr int64_t kLeastChannelsOfLarge = 128, kLeastPositionsOfLarge = 1024;  ///< Tile 4.

/// The convolution of x [B, in, H, W] with filters [out, in, 3, 3], or, `transposed`, its gradient
/// in x of the gradient [B, out, H, W]; contiguous all of them. F: the channels that come in, T:
/// those that go out, K: transformed values of a tile, P: tiles. The products of transformed values
/// are float32.
template <class Scalar>
class Convolution {
 public:
  Convolution(const at::Tensor& x_BFHW, const at::Tensor& weight_OIHW, const at::Tensor& bias_T,
              int64_t tile, bool transposed)
      : x_BFHW_(x_BFHW),
        tile_(tile),
        transposed_(transposed),
        height_(x_BFHW.size(2)),
        width_(x_BFHW.size(3)),
        pixels_(height_ * width_),
        k_((tile + 2) * (tile + 2)),
        in_channels_(weight_OIHW.size(1)),
        from_(x_BFHW.size(1)),
        to_(weight_OIHW.size(transposed ? 1 : 0)),
        x_(x_BFHW.const_data_ptr<Scalar>()),
        weight_(weight_OIHW.const_data_ptr<Scalar>()),
        bias_(bias_T.defined() ? bias_T.const_data_ptr<Scalar>() : nullptr) {}

  at::Tensor Run() {
    const int64_t batch = x_BFHW_.size(0);
    at::Tensor y_BTHW = at::empty({batch, to_, height_, width_}, x_BFHW_.options());
    tiles_ = {.tile = tile_, .height = height_, .width = width_, .row_begin = 0, .row_end = 0};
    const int64_t rows = batch * tiles_.rows_per_image();
    const int64_t tile_bytes = k_ * from_ * static_cast<int64_t>(sizeof(float));
    const int64_t most_tiles = std::max<int64_t>(kMostPatchBytes / tile_bytes, kLeastTiles);
    const int64_t row_step = std::clamp<int64_t>(most_tiles / tiles_.tiles_per_row(), 1, rows);
    tiles_.row_end = row_step;
    const int64_t most_p = tiles_.padded_tiles();
    const int64_t most_channels = kMostBlockBytes / (k_ * (from_ + most_p) * 4);
    const int64_t step = std::clamp<int64_t>(most_channels / 16 * 16, 16, to_);

    images_ = static_cast<float*>(ThreadWorkspace(k_ * (step * (most_p + from_) + most_p * from_) *
                                                  static_cast<int64_t>(sizeof(float))));
    filters_ = images_ + k_ * step * most_p;
    patches_ = filters_ + k_ * step * from_;

    for (int64_t row = 0; row < rows; row += row_step) {
      tiles_.row_begin = row;
      tiles_.row_end = std::min(row + row_step, rows);
      MakePatches();
      for (int64_t first = 0; first < to_; first += step) {
        const int64_t count = std::min(step, to_ - first);
        MakeFilters(first, count);
        Multiply(count);
        MakeImages(first, count, y_BTHW.mutable_data_ptr<Scalar>());
      }
    }
    return y_BTHW;
  }

 private:
  /// [K, F, P]
  void MakePatches() {
    const int64_t p = tiles_.padded_tiles();
    ParallelFor(from_, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t c = begin; c < end; ++c) {
        TransformPatches(tiles_, x_ + c * pixels_, from_ * pixels_, patches_ + c * p, from_ * p,
                         &scratch);
      }
    });
  }

  /// [K, T, F]
  void MakeFilters(int64_t first, int64_t count) {
    const int64_t stride = transposed_ ? in_channels_ * kFilterTaps : kFilterTaps;
    ParallelFor(count, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const Scalar* const filters =
            weight_ + (first + c) * (transposed_ ? kFilterTaps : in_channels_ * kFilterTaps);
        TransformFilters(tile_, from_, filters, stride, transposed_, filters_ + c * from_,
                         count * from_);
      }
    });
  }

  /// [K, T, P]
  void Multiply(int64_t count) {
    const int64_t p = tiles_.padded_tiles();
    at::Tensor images_KTP = at::from_blob(images_, {k_, count, p}, at::kFloat);
    at::bmm_out(images_KTP, at::from_blob(filters_, {k_, count, from_}, at::kFloat),
                at::from_blob(patches_, {k_, from_, p}, at::kFloat));
  }

  void MakeImages(int64_t first, int64_t count, Scalar* y) {
    const int64_t p = tiles_.padded_tiles();
    ParallelFor(count, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        TransformImages(tiles_, images_ + c * p, count * p,
                        bias_ != nullptr ? static_cast<float>(bias_[first + c]) : 0.0F,
                        y + (first + c) * pixels_, to_ * pixels_);
      }
    });
  }

  const at::Tensor& x_BFHW_;
  int64_t tile_;
  bool transposed_;
  int64_t height_, width_, pixels_, k_, in_channels_, from_, to_;
  const Scalar* x_;
  const Scalar* weight_;
  const Scalar* bias_;

  WinogradTiles tiles_;
  float* images_ = nullptr;
  float* filters_ = nullptr;
  float* patches_ = nullptr;
};

at::Tensor Convolve(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW,
                    const at::Tensor& bias_O, int64_t tile, bool transposed) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = x_BCHW.contiguous(), weight = weight_OIHW.contiguous();
  if (x.scalar_type() == at::kFloat) {
    return Convolution<float>(x, weight, bias_O, tile, transposed).Run();
  }
  return Convolution<c10::BFloat16>(x, weight, bias_O, tile, transposed).Run();
}

}  // namespace

int64_t WinogradTile(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW) {
  const at::ScalarType dtype = x_BCHW.scalar_type();
  const int64_t out = weight_OIHW.size(0), in = weight_OIHW.size(1);
  if (!x_BCHW.is_cpu() || (dtype != at::kFloat && dtype != at::kBFloat16) ||
      weight_OIHW.size(2) != 3 || weight_OIHW.size(3) != 3 || in % kChannelMultiple != 0 ||
      out % kChannelMultiple != 0) {
    return 0;
  }
  const int64_t channels = std::min(in, out), positions = x_BCHW.numel() / in;
  if (dtype == at::kBFloat16) {
    if (HasMatrixUnits()) return 0;
    if (channels >= kLeastChannelsOfLarge && positions >= kLeastPositionsOfLarge) return 4;
  }
  return channels >= kLeastChannels && positions >= kLeastPositions ? 2 : 0;
}

at::Tensor WinogradConvolution(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW,
                               const at::Tensor& bias_O, int64_t tile) {
  return WithInputGradient(
      x_BCHW, Convolve(x_BCHW, weight_OIHW, bias_O, tile, /*transposed=*/false),
      [weight_OIHW, tile](const at::Tensor& y_grad_BCHW) {
        return Convolve(y_grad_BCHW, weight_OIHW, /*bias_O=*/{}, tile, /*transposed=*/true);
      });
}

}  // namespace imageddpo
