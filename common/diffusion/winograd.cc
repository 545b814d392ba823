#include "common/diffusion/winograd.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "common/diffusion/input_gradient.h"
#include "common/diffusion/winograd_kernel.h"

namespace imageddpo {
namespace {

/// Bytes of transformed patches, and of transformed filters with the images they yield, that are
/// under way at once: what the caches hold.
constexpr int64_t kMostPatchBytes = int64_t{24} << 20;
constexpr int64_t kMostBlockBytes = int64_t{8} << 20;
constexpr int64_t kLeastTiles = 128;  ///< At once: with fewer, products are no longer fast.
constexpr int64_t kTaps = 9;

/// What WinogradTile() goes by; measured, see docs/architecture.md.
constexpr int64_t kChannelMultiple = 32;
constexpr int64_t kLeastChannels = 256, kLeastPositions = 256;                 ///< Tile 2.
constexpr int64_t kLeastChannelsOfLarge = 128, kLeastPositionsOfLarge = 1024;  ///< Tile 4.

/// Memory to work in that a thread keeps: blocks of this size that are freed and asked for again
/// are zeroed by the kernel page by page, which takes longer than the convolution.
class Workspace {
 public:
  /// `count` floats, undefined. Valid until the next call.
  float* Floats(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kPage - 1) / kPage * kPage;
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
      if (memory_ == nullptr) throw std::bad_alloc();
      madvise(memory_.get(), bytes, MADV_HUGEPAGE);  // Only makes it faster.
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  static constexpr size_t kPage = size_t{2} << 20;
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float, Free> memory_;
  size_t size_ = 0;
};

/// The convolution of x [B, in, H, W] with filters [out, in, 3, 3], or, `transposed`, its gradient
/// in x of the gradient [B, out, H, W]; contiguous all of them. F: the channels that come in, T:
/// those that go out, K: transformed values of a tile, P: tiles.
template <class Scalar>
at::Tensor Convolve(const at::Tensor& x_BFHW, const at::Tensor& weight_OIHW,
                    const at::Tensor& bias_T, int64_t tile, bool transposed) {
  const int64_t batch = x_BFHW.size(0), height = x_BFHW.size(2), width = x_BFHW.size(3);
  const int64_t pixels = height * width, k = (tile + 2) * (tile + 2);
  const int64_t in_channels = weight_OIHW.size(1);
  const int64_t from = x_BFHW.size(1), to = weight_OIHW.size(transposed ? 1 : 0);
  at::Tensor y_BTHW = at::empty({batch, to, height, width}, x_BFHW.options());

  WinogradTiles tiles = {
      .tile = tile, .height = height, .width = width, .row_begin = 0, .row_end = 0};
  const int64_t rows = batch * tiles.rows_per_image();
  const int64_t most_tiles = std::max<int64_t>(kMostPatchBytes / (k * from * 4), kLeastTiles);
  const int64_t row_step = std::clamp<int64_t>(most_tiles / tiles.tiles_per_row(), 1, rows);
  tiles.row_end = row_step;
  const int64_t most_p = tiles.padded_tiles();
  const int64_t most_channels = kMostBlockBytes / (k * (from + most_p) * 4);
  const int64_t step = std::clamp<int64_t>(most_channels / 16 * 16, 16, to);

  thread_local Workspace workspace;
  float* const patches = workspace.Floats(k * (from * most_p + step * (from + most_p)));
  float* const filters = patches + k * from * most_p;
  float* const images = filters + k * step * from;
  const Scalar* const weight = weight_OIHW.const_data_ptr<Scalar>();
  const Scalar* const bias = bias_T.defined() ? bias_T.const_data_ptr<Scalar>() : nullptr;
  const Scalar* const x = x_BFHW.const_data_ptr<Scalar>();
  Scalar* const y = y_BTHW.mutable_data_ptr<Scalar>();

  for (int64_t row = 0; row < rows; row += row_step) {
    tiles.row_begin = row;
    tiles.row_end = std::min(row + row_step, rows);
    const int64_t p = tiles.padded_tiles();
    at::parallel_for(0, from, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t c = begin; c < end; ++c) {
        TransformPatches(tiles, x + c * pixels, from * pixels, patches + c * p, from * p, &scratch);
      }
    });
    const at::Tensor patches_KFP = at::from_blob(patches, {k, from, p}, at::kFloat);
    for (int64_t first = 0; first < to; first += step) {
      const int64_t count = std::min(step, to - first);
      at::Tensor filters_KTF;
      if (transposed) {
        at::parallel_for(0, from, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
          for (int64_t c = begin; c < end; ++c) {
            TransformFilters(tile, count, weight + (c * in_channels + first) * kTaps,
                             /*rotated=*/true, filters + c * count, from * count);
          }
        });
        filters_KTF = at::from_blob(filters, {k, from, count}, at::kFloat).transpose(1, 2);
      } else {
        at::parallel_for(0, count, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
          for (int64_t c = begin; c < end; ++c) {
            TransformFilters(tile, from, weight + (first + c) * from * kTaps, /*rotated=*/false,
                             filters + c * from, count * from);
          }
        });
        filters_KTF = at::from_blob(filters, {k, count, from}, at::kFloat);
      }
      at::Tensor images_KTP = at::from_blob(images, {k, count, p}, at::kFloat);
      at::bmm_out(images_KTP, filters_KTF, patches_KFP);
      at::parallel_for(0, count, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
          TransformImages(tiles, images + c * p, count * p,
                          bias != nullptr ? static_cast<float>(bias[first + c]) : 0.0F,
                          y + (first + c) * pixels, to * pixels);
        }
      });
    }
  }
  return y_BTHW;
}

at::Tensor Convolve(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW,
                    const at::Tensor& bias_O, int64_t tile, bool transposed) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = x_BCHW.contiguous(), weight = weight_OIHW.contiguous();
  return x.scalar_type() == at::kFloat
             ? Convolve<float>(x, weight, bias_O, tile, transposed)
             : Convolve<c10::BFloat16>(x, weight, bias_O, tile, transposed);
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
  if (dtype == at::kBFloat16 && channels >= kLeastChannelsOfLarge &&
      positions >= kLeastPositionsOfLarge) {
    return 4;
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
