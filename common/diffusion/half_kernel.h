#pragma once

#include <cstdint>

namespace imageddpo {

// Products of bfloat16 matrices in half precision, for processors with arithmetic of their own for
// it (HasHalfArithmetic() of processor.h), which do twice as many such operations as float32's and
// four times as many as of the instruction for bfloat16. Half precision has three bits more than
// bfloat16 and a narrower range: blocks of a matrix are scaled by powers of two, so that a value is
// exact down to 2^-20 of its block's largest. Sums of kHalfRun products are half precision, sums of
// those float32. The same bits at every call.
//
// A product is made of tiles: kHalfRows rows of the left matrix times kHalfColumns columns of the
// right one, over all of their common dimension, the depth.

constexpr int64_t kHalfRows = 12;
constexpr int64_t kHalfColumns = 64;
constexpr int64_t kHalfRun = 64;

/// A matrix of bfloat16 as a product reads it: `outer` runs over the rows of the left one or the
/// columns of the right one, in `groups` that lie apart from one another.
struct HalfSource {
  const uint16_t* data;
  int64_t outer;         ///< How many rows or columns there are.
  int64_t per_group;     ///< Of them, those of a group.
  int64_t group_stride;  ///< In values, as are the other two.
  int64_t outer_stride;
  int64_t depth_stride;

  const uint16_t* At(int64_t index) const {
    return data + index / per_group * group_stride + index % per_group * outer_stride;
  }
};

/// Rows from `first` on, at most kHalfRows.
/// @param to  [rows up to the next multiple of 4, depth], scaled, each value twice; behind the last
///            row zeros.
/// @return what values must be multiplied by to be the source's.
float PackHalfRows(const HalfSource& source, int64_t first, int64_t rows, int64_t depth,
                   uint32_t* to);

/// Columns from `first` on, at most kHalfColumns.
/// @param to  [depth, kHalfColumns], scaled; behind the last column zeros.
/// @return as of the rows.
float PackHalfColumns(const HalfSource& source, int64_t first, int64_t columns, int64_t depth,
                      uint16_t* to);

/// @param rows     as packed; only the first `row_count` of them, at most kHalfRows.
/// @param columns  as packed; only the first `column_count` of them, at most kHalfColumns.
/// @param tile     float32 [row_count up to the next multiple of 4, kHalfColumns], 64-byte aligned.
void MultiplyHalves(const uint32_t* rows, int64_t row_count, const uint16_t* columns,
                    int64_t column_count, int64_t depth, float* tile);

/// Where a tile goes to: bfloat16, laid out as `HalfSource`s are. Either rows or columns lie next
/// to one another.
struct HalfTarget {
  uint16_t* data;
  int64_t row_stride, column_stride;
  const uint16_t* row_bias;     ///< Null: none.
  const uint16_t* column_bias;  ///< Null: none.
};

/// tile · row_scale · column_scale + biases, rounded to nearest.
void StoreHalfTile(const float* tile, int64_t rows, int64_t columns, float row_scale,
                   float column_scale, const HalfTarget& to);

/// The same as float32 without a bias, each row with a scale of its own.
/// @param columns  a multiple of 16.
void UnpackHalfTile(const float* tile, int64_t rows, int64_t columns, const float* row_scales,
                    float column_scale, float* to, int64_t to_stride);

/// An upper bound of bfloat16's bits without their signs, of `lines` lines of `per_line` values
/// each, `line_stride` apart. Where there are several lines, of less than 16 values each, what lies
/// behind a line may count as well.
uint32_t LargestMagnitude(const uint16_t* values, int64_t lines, int64_t line_stride,
                          int64_t per_line);

}  // namespace imageddpo
