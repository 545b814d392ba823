#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <vector>

namespace imageddpo {

// The transforms of Winograd's convolution with 3×3 filters, stride 1 and padding 1, F(2×2, 3×3)
// and F(4×4, 3×3) (Lavin & Gray, arXiv:1509.09308): an image is cut into tiles of tile² output
// values, each of which depends on a patch of side² input values, side = tile + 2. Transformed
// patches times transformed filters, value by value and summed over the channels, are transformed
// images: side² matrix products. Transformed values are float32; images and filters may be bfloat16
// (`Scalar`: float or c10::BFloat16). The same bits at every call on one kind of processor.

/// Consecutive rows of tiles of a batch of images [B, C, height, width]: rows [row_begin, row_end),
/// counted over all images. The last index of transformed values is the tile, row by row, up to
/// padded_tiles(); values behind the last tile are unused.
struct WinogradTiles {
  int64_t tile;  ///< 2 or 4.
  int64_t height, width;
  int64_t row_begin, row_end;

  int64_t side() const { return tile + 2; }
  int64_t rows_per_image() const { return (height + tile - 1) / tile; }
  int64_t tiles_per_row() const { return (width + tile - 1) / tile; }
  int64_t tiles() const { return (row_end - row_begin) * tiles_per_row(); }
  int64_t padded_tiles() const { return (tiles() + 15) / 16 * 16; }
};

/// Transforms the filters of one output channel.
/// @param filters_I33     that channel's; the filters of consecutive input channels are
///                        `filter_stride` values apart.
/// @param rotated         rotated by 180°, as the gradient needs them.
/// @param to              transformed, [side², in_channels] with `to_stride` values from one of the
///                        side² to the next; in_channels a multiple of 16.
template <class Scalar>
void TransformFilters(int64_t tile, int64_t in_channels, const Scalar* filters_I33,
                      int64_t filter_stride, bool rotated, float* to, int64_t to_stride);

/// Transforms the patches of one input channel.
/// @param plane_HW      that channel in the first image; consecutive images are `image_stride`
///                      values apart.
/// @param to            transformed, [side², padded_tiles] with a stride as above.
/// @param scratch       scratch memory, grown if too small; one per thread.
template <class Scalar>
void TransformPatches(const WinogradTiles& tiles, const Scalar* plane_HW, int64_t image_stride,
                      float* to, int64_t to_stride, std::vector<float>* scratch);

/// Computes one output channel from its transformed values.
/// @param from     [side², padded_tiles] with a stride as above.
/// @param plane_HW that channel in the first image; only the area that the tiles cover is written.
template <class Scalar>
void TransformImages(const WinogradTiles& tiles, const float* from, int64_t from_stride, float bias,
                     Scalar* plane_HW, int64_t image_stride);

}  // namespace imageddpo
