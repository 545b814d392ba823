#include "common/kernels/winograd_kernel.h"

#include <algorithm>
#include <cstdlib>
#include <type_traits>

#include "common/kernels/lanes.h"
#include "common/kernels/winograd_transforms.h"

// Lanes run over input channels in filters, over tiles elsewhere.
namespace imageddpo {
namespace {

constexpr int kFilter = kWinogradFilter;
constexpr int kTaps = kFilter * kFilter;

/// `function(from, to)` of the columns and then of the rows of kFrom × kFrom values.
template <int kFrom, int kTo, class Function>
IMAGEDDPO_INLINE void InBothDirections(const Lanes (&from)[kFrom][kFrom], Lanes (&to)[kTo][kTo],
                                       Function function) {
  Lanes half[kTo][kFrom];
#pragma GCC unroll 6
  for (int column = 0; column < kFrom; ++column) {
    Lanes in[kFrom], out[kTo];
    for (int row = 0; row < kFrom; ++row) in[row] = from[row][column];
    function(in, out);
    for (int row = 0; row < kTo; ++row) half[row][column] = out[row];
  }
#pragma GCC unroll 6
  for (int row = 0; row < kTo; ++row) function(half[row], to[row]);
}

/// Of kLanes filters, `stride` apart, one in each lane.
template <class Scalar>
IMAGEDDPO_INLINE void LoadTaps(const Scalar* filters, int64_t stride, Lanes (&taps)[kTaps]) {
  alignas(64) float values[kTaps][kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    for (int tap = 0; tap < kTaps; ++tap) {
      values[tap][lane] = static_cast<float>(filters[lane * stride + tap]);
    }
  }
  for (int tap = 0; tap < kTaps; ++tap) taps[tap] = LoadLanes(values[tap]);
}

template <int kTile, class Scalar>
struct FiltersKernel {
  int64_t in_channels;
  const Scalar* filters;
  int64_t filter_stride;
  bool rotated;
  float* to;
  int64_t to_stride;

  IMAGEDDPO_INLINE void operator()() const {
    constexpr int kSide = kTile + 2;
    for (int64_t i = 0; i < in_channels; i += kLanes) {
      Lanes taps[kTaps], filter[kFilter][kFilter], transformed[kSide][kSide];
      LoadTaps(filters + i * filter_stride, filter_stride, taps);
      for (int tap = 0; tap < kTaps; ++tap) {
        filter[tap / kFilter][tap % kFilter] = taps[rotated ? kTaps - 1 - tap : tap];
      }
      InBothDirections(filter, transformed, FilterTransform<kTile>());
      for (int k = 0; k < kSide * kSide; ++k) {
        StoreLanes(transformed[k / kSide][k % kSide], to + k * to_stride + i);
      }
    }
  }
};

template <int kTile, class Scalar>
struct PatchesKernel {
  const WinogradTiles* tiles;
  const Scalar* plane;
  int64_t image_stride;
  float* to;
  int64_t to_stride;
  std::vector<float>* scratch;

  IMAGEDDPO_INLINE void operator()() const {
    constexpr int kSide = kTile + 2;
    const int64_t height = tiles->height, width = tiles->width, columns = tiles->tiles_per_row();
    const int64_t rows_per_image = tiles->rows_per_image();
    // The lines of each row of tiles, with the zeros around the image.
    const int64_t padded_width = columns * kTile + 2, line_size = kSide * padded_width;
    const int64_t rows = tiles->row_end - tiles->row_begin;
    if (static_cast<int64_t>(scratch->size()) < rows * line_size) scratch->resize(rows * line_size);
    float* lines = scratch->data();
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t image = (tiles->row_begin + row) / rows_per_image;
      const int64_t top = (tiles->row_begin + row) % rows_per_image * kTile - 1;
      const Scalar* const from = plane + image * image_stride;
      for (int64_t y = top; y < top + kSide; ++y, lines += padded_width) {
        if (y < 0 || y >= height) {
          std::fill(lines, lines + padded_width, 0.0F);
          continue;
        }
        lines[0] = 0;
        for (int64_t x = 0; x < width; ++x) lines[x + 1] = static_cast<float>(from[y * width + x]);
        std::fill(lines + width + 1, lines + padded_width, 0.0F);
      }
    }
    const int64_t count = tiles->tiles();
    int64_t row = 0, column = 0;
    for (int64_t p = 0; p < count; p += kLanes) {
      alignas(64) float gathered[kSide][kSide][kLanes];
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float* const corner = scratch->data() + row * line_size + column * kTile;
        for (int y = 0; y < kSide; ++y) {
          for (int x = 0; x < kSide; ++x) gathered[y][x][lane] = corner[y * padded_width + x];
        }
        if (p + lane + 1 < count && ++column == columns) {  // Lanes behind the last repeat it.
          column = 0;
          ++row;
        }
      }
      Lanes patch[kSide][kSide], transformed[kSide][kSide];
      for (int k = 0; k < kSide * kSide; ++k) {
        patch[k / kSide][k % kSide] = LoadLanes(gathered[k / kSide][k % kSide]);
      }
      InBothDirections(patch, transformed, PatchTransform<kTile>());
      for (int k = 0; k < kSide * kSide; ++k) {
        StoreLanes(transformed[k / kSide][k % kSide], to + k * to_stride + p);
      }
    }
  }
};

template <int kTile, class Scalar>
struct ImagesKernel {
  const WinogradTiles* tiles;
  const float* from;
  int64_t from_stride;
  float bias;
  Scalar* plane;
  int64_t image_stride;

  IMAGEDDPO_INLINE void operator()() const {
    constexpr int kSide = kTile + 2;
    const int64_t height = tiles->height, width = tiles->width, columns = tiles->tiles_per_row();
    const int64_t rows_per_image = tiles->rows_per_image(), count = tiles->tiles();
    int64_t row = tiles->row_begin, column = 0;
    for (int64_t p = 0; p < count; p += kLanes) {
      Lanes transformed[kSide][kSide], image[kTile][kTile];
      for (int k = 0; k < kSide * kSide; ++k) {
        transformed[k / kSide][k % kSide] = LoadLanes(from + k * from_stride + p);
      }
      InBothDirections(transformed, image, ImageTransform<kTile>());
      alignas(64) float values[kTile][kTile][kLanes];
      for (int k = 0; k < kTile * kTile; ++k) {
        StoreLanes(image[k / kTile][k % kTile] + bias, values[k / kTile][k % kTile]);
      }
      for (int64_t lane = 0; lane < std::min(kLanes, count - p); ++lane) {
        const int64_t top = row % rows_per_image * kTile, left = column * kTile;
        Scalar* const corner = plane + row / rows_per_image * image_stride + top * width + left;
        const int64_t lines = std::min<int64_t>(kTile, height - top);
        if (left + kTile <= width) {
          for (int64_t y = 0; y < lines; ++y) {
            for (int x = 0; x < kTile; ++x) corner[y * width + x] = Scalar(values[y][x][lane]);
          }
        } else {
          for (int64_t y = 0; y < lines; ++y) {
            for (int64_t x = 0; left + x < width; ++x) {
              corner[y * width + x] = Scalar(values[y][x][lane]);
            }
          }
        }
        if (++column == columns) {
          column = 0;
          ++row;
        }
      }
    }
  }
};

/// `run` with the tile as a constant.
template <class Run>
void WithTile(int64_t tile, const Run& run) {
  switch (tile) {
    case 2:
      return run(std::integral_constant<int, 2>());
    case 4:
      return run(std::integral_constant<int, 4>());
    default:
      std::abort();
  }
}

}  // namespace

template <class Scalar>
void TransformFilters(int64_t tile, int64_t in_channels, const Scalar* filters_I33,
                      int64_t filter_stride, bool rotated, float* to, int64_t to_stride) {
  WithTile(tile, [&](auto constant) {
    RunKernel(FiltersKernel<constant(), Scalar>{.in_channels = in_channels,
                                                .filters = filters_I33,
                                                .filter_stride = filter_stride,
                                                .rotated = rotated,
                                                .to = to,
                                                .to_stride = to_stride});
  });
}

template <class Scalar>
void TransformPatches(const WinogradTiles& tiles, const Scalar* plane_HW, int64_t image_stride,
                      float* to, int64_t to_stride, std::vector<float>* scratch) {
  WithTile(tiles.tile, [&](auto constant) {
    RunKernel(PatchesKernel<constant(), Scalar>{.tiles = &tiles,
                                                .plane = plane_HW,
                                                .image_stride = image_stride,
                                                .to = to,
                                                .to_stride = to_stride,
                                                .scratch = scratch});
  });
}

template <class Scalar>
void TransformImages(const WinogradTiles& tiles, const float* from, int64_t from_stride, float bias,
                     Scalar* plane_HW, int64_t image_stride) {
  WithTile(tiles.tile, [&](auto constant) {
    RunKernel(ImagesKernel<constant(), Scalar>{.tiles = &tiles,
                                               .from = from,
                                               .from_stride = from_stride,
                                               .bias = bias,
                                               .plane = plane_HW,
                                               .image_stride = image_stride});
  });
}

template void TransformFilters(int64_t, int64_t, const float*, int64_t, bool, float*, int64_t);
template void TransformFilters(int64_t, int64_t, const c10::BFloat16*, int64_t, bool, float*,
                               int64_t);
template void TransformPatches(const WinogradTiles&, const float*, int64_t, float*, int64_t,
                               std::vector<float>*);
template void TransformPatches(const WinogradTiles&, const c10::BFloat16*, int64_t, float*, int64_t,
                               std::vector<float>*);
template void TransformImages(const WinogradTiles&, const float*, int64_t, float, float*, int64_t);
template void TransformImages(const WinogradTiles&, const float*, int64_t, float, c10::BFloat16*,
                              int64_t);

}  // namespace imageddpo
