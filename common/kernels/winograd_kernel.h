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

/// Some rows of tiles of a batch of images [B, C, height, width]: from the rows of all images in
/// turn, those from row_begin to row_end. Their tiles, row by row, are what transformed values are
/// indexed by last, up to padded_tiles(); those behind the last tile hold nothing.
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

/// The filters of one channel that goes out.
/// @param filters_I33     that channel's; those of one channel that comes in lie `filter_stride`
///                        values before the next one's.
/// @param rotated         turned by half a turn, as the gradient wants them.
/// @param to              transformed, [side², in_channels] with `to_stride` values from one of the
///                        side² to the next; in_channels a multiple of 16.
template <class Scalar>
void TransformFilters(int64_t tile, int64_t in_channels, const Scalar* filters_I33,
                      int64_t filter_stride, bool rotated, float* to, int64_t to_stride);

/// The patches of one channel.
/// @param plane_HW      that channel in the first image, `image_stride` values before the next's.
/// @param to            transformed, [side², padded_tiles] with a stride as above.
/// @param scratch       memory to work in, grown where it is too small; one for each thread.
template <class Scalar>
void TransformPatches(const WinogradTiles& tiles, const Scalar* plane_HW, int64_t image_stride,
                      float* to, int64_t to_stride, std::vector<float>* scratch);

/// One channel of the output, from its transformed values.
/// @param from     [side², padded_tiles] with a stride as above.
/// @param plane_HW that channel in the first image; where the tiles are is written.
template <class Scalar>
void TransformImages(const WinogradTiles& tiles, const float* from, int64_t from_stride, float bias,
                     Scalar* plane_HW, int64_t image_stride);

}  // namespace imageddpo
