#include "common/diffusion/half_kernel.h"

#include <algorithm>
#include <cstring>

#include "common/diffusion/half_lanes.h"

namespace imageddpo {
namespace {

/// Scaled values are less than 2^this: sums of kHalfRun products stay below 2^15.
constexpr int kRowExponent = 4;
constexpr int kColumnExponent = 5;

/// bfloat16's bits, one in each lane, as half precision's, scaled.
IMAGEDDPO_INLINE ShortWords ScaledHalf(const Words& bits, float factor) {
  return ToHalf(reinterpret_cast<Lanes>(bits << 16) * factor);
}

/// At most kLanes values; zeros behind them.
IMAGEDDPO_INLINE ShortWords LoadSome(const uint16_t* from, int64_t count) {
  if (count >= kLanes) return Load<ShortWords>(from);
  ShortWords words = {};
  std::memcpy(&words, from, count * sizeof(uint16_t));
  return words;
}

IMAGEDDPO_INLINE void StoreSome(const Words& words, uint32_t* to, int64_t count) {
  if (count >= kLanes) return Store(words, to);
  std::memcpy(to, &words, count * sizeof(uint32_t));
}

struct RowsKernel {
  const HalfSource* source;
  int64_t first, rows, depth;
  uint32_t* to;
  float* inverse;

  IMAGEDDPO_INLINE void operator()() const {
    Words largest = {};
    const auto keep = [&](const Words& bits, int64_t row, int64_t d) {
      const Words magnitude = bits & kMagnitude;
      largest = magnitude > largest ? magnitude : largest;
      StoreSome(bits, to + row * depth + d, depth - d);
    };
    if (source->depth_stride == 1) {
      for (int64_t row = 0; row < rows; ++row) {
        const uint16_t* const from = source->At(first + row);
        for (int64_t d = 0; d < depth; d += kLanes) {
          keep(Widened(LoadSome(from + d, depth - d)), row, d);
        }
      }
    } else {
      const uint16_t* from[kHalfRows];
      for (int64_t row = 0; row < rows; ++row) from[row] = source->At(first + row);
      const bool adjacent = rows == kHalfRows && from[kHalfRows - 1] == from[0] + kHalfRows - 1;
      for (int64_t d = 0; d < depth; d += kLanes) {
        Words block[kLanes] = {};
        for (int64_t i = 0; i < std::min(kLanes, depth - d); ++i) {
          const int64_t offset = (d + i) * source->depth_stride;
          if (adjacent) {
            uint64_t values[3];
            static_assert(sizeof(values) == kHalfRows * sizeof(uint16_t));
            std::memcpy(values, from[0] + offset, sizeof(values));
            const Quads quads = {values[0], values[1], values[2], 0};
            block[i] = Widened(reinterpret_cast<ShortWords>(quads));
          } else {
            for (int64_t row = 0; row < rows; ++row) block[i][row] = from[row][offset];
          }
        }
        Transpose(block);
        for (int64_t row = 0; row < rows; ++row) keep(block[row], row, d);
      }
    }
    const Scale scale = ScaleOf(Largest(largest), kRowExponent);
    *inverse = scale.inverse;
    const int64_t count = rows * depth, whole = count / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      Store(Twice(ScaledHalf(Load<Words>(to + i), scale.factor)), to + i);
    }
    if (whole < count) {
      Words bits = {};
      std::memcpy(&bits, to + whole, (count - whole) * sizeof(uint32_t));
      StoreSome(Twice(ScaledHalf(bits, scale.factor)), to + whole, count - whole);
    }
    std::fill(to + rows * depth, to + (rows + 3) / 4 * 4 * depth, 0);
  }
};

struct ColumnsKernel {
  const HalfSource* source;
  int64_t first, columns, depth;
  uint16_t* to;
  float* inverse;

  IMAGEDDPO_INLINE void operator()() const {
    Words largest = {};
    const auto keep = [&](const Words& bits) {
      largest = (bits & kMagnitude) > largest ? (bits & kMagnitude) : largest;
      const Words upper = bits >> 16 & kMagnitude;
      largest = upper > largest ? upper : largest;
    };
    if (source->depth_stride == 1) {
      const uint16_t* from[kHalfColumns];
      for (int64_t column = 0; column < columns; ++column)
        from[column] = source->At(first + column);
      for (int64_t c = 0; c < kHalfColumns; c += kHalfLanes) {
        for (int64_t d = 0; d < depth; d += kLanes) {
          Words block[kLanes];  // Of each depth two columns.
          for (int64_t i = 0; i < kLanes; ++i) {
            Words pair[2] = {};
            for (int64_t j = 0; j < 2; ++j) {
              const int64_t column = c + 2 * i + j;
              if (column < columns) {
                pair[j] = Widened(LoadSome(from[column] + d, depth - d));
              }
            }
            block[i] = pair[0] | pair[1] << 16;
            keep(block[i]);
          }
          Transpose(block);
          for (int64_t i = 0; i < std::min(kLanes, depth - d); ++i) {
            Store(block[i], to + (d + i) * kHalfColumns + c);
          }
        }
      }
    } else {
      // Runs of columns that lie next to one another.
      struct Run {
        const uint16_t* from;
        int64_t count;
      };
      Run runs[kHalfColumns];
      int64_t run_count = 0;
      for (int64_t column = 0; column < columns;) {
        const int64_t in_group = source->per_group - (first + column) % source->per_group;
        const int64_t count =
            source->outer_stride == 1 ? std::min(columns - column, in_group) : int64_t{1};
        runs[run_count++] = {source->At(first + column), count};
        column += count;
      }
      for (int64_t d = 0; d < depth; ++d) {
        uint16_t* const line = to + d * kHalfColumns;
        if (runs[0].count == kHalfColumns) {
          std::memcpy(line, runs[0].from + d * source->depth_stride,
                      kHalfColumns * sizeof(uint16_t));
        } else {
          uint16_t* next = line;
          for (int64_t r = 0; r < run_count; ++r) {
            next = std::copy_n(runs[r].from + d * source->depth_stride, runs[r].count, next);
          }
          std::fill(next, line + kHalfColumns, 0);
        }
        keep(Load<Words>(line));
        keep(Load<Words>(line + kHalfLanes));
      }
    }
    const Scale scale = ScaleOf(Largest(largest), kColumnExponent);
    *inverse = scale.inverse;
    for (int64_t i = 0; i < depth * kHalfColumns; i += kLanes) {
      Store(ScaledHalf(Widened(Load<ShortWords>(to + i)), scale.factor), to + i);
    }
  }
};

template <int kRows, int kVectors>
struct MultiplyKernel {
  const uint32_t* rows;
  const uint16_t* columns;
  int64_t depth;
  float* tile;

  IMAGEDDPO_INLINE void operator()() const {
    std::fill(tile, tile + kRows * kHalfColumns, 0.0F);
    for (int64_t begin = 0; begin < depth; begin += kHalfRun) {
      Halves sums[kRows][kVectors] = {};
      const int64_t end = std::min(begin + kHalfRun, depth);
      for (int64_t d = begin; d < end; ++d) {
        Halves column[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          column[v] = Load<Halves>(columns + d * kHalfColumns + v * kHalfLanes);
        }
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          const Halves row = reinterpret_cast<Halves>(rows[r * depth + d] - Words{});
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sums[r][v] += row * column[v];
        }
      }
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          ShortWords halves[2];
          std::memcpy(halves, &sums[r][v], sizeof(halves));
          float* const to = tile + r * kHalfColumns + v * kHalfLanes;
          StoreLanes(LoadLanes(to) + ToFloat(halves[0]), to);
          StoreLanes(LoadLanes(to + kLanes) + ToFloat(halves[1]), to + kLanes);
        }
      }
    }
  }
};

template <int kRows>
void Multiply(const uint32_t* rows, const uint16_t* columns, int64_t column_count, int64_t depth,
              float* tile) {
  if (column_count > kHalfLanes) {
    RunHalf(
        MultiplyKernel<kRows, 2>{.rows = rows, .columns = columns, .depth = depth, .tile = tile});
  } else {
    RunHalf(
        MultiplyKernel<kRows, 1>{.rows = rows, .columns = columns, .depth = depth, .tile = tile});
  }
}

/// Rounded to nearest, ties to even; one in each lane.
IMAGEDDPO_INLINE Words ToBFloat16(const Lanes& values) {
  constexpr uint32_t kNotANumber = 0x7FC0;
  const Words bits = reinterpret_cast<Words>(values);
  const Words rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  return values == values ? rounded : kNotANumber - Words{};
}

struct StoreKernel {
  const float* tile;
  int64_t rows, columns;
  float row_scale, column_scale;
  const HalfTarget* to;

  IMAGEDDPO_INLINE Lanes Values(int64_t row, int64_t column) const {
    Lanes values = LoadLanes(tile + row * kHalfColumns + column) * row_scale * column_scale;
    if (to->row_bias != nullptr) values += BFloat16(to->row_bias[row]);
    if (to->column_bias != nullptr) {
      const ShortWords bias = LoadSome(to->column_bias + column, columns - column);
      values += reinterpret_cast<Lanes>(Widened(bias) << 16);
    }
    return values;
  }
  IMAGEDDPO_INLINE static float BFloat16(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
  IMAGEDDPO_INLINE static void StoreWords(const Words& words, uint16_t* to, int64_t count) {
    const ShortWords narrow = __builtin_convertvector(words, ShortWords);
    if (count >= kLanes) {
      Store(narrow, to);
    } else if (count == kHalfRows) {
      std::memcpy(to, &narrow, kHalfRows * sizeof(uint16_t));
    } else {
      std::memcpy(to, &narrow, count * sizeof(uint16_t));
    }
  }

  IMAGEDDPO_INLINE void operator()() const {
    for (int64_t column = 0; column < columns; column += kLanes) {
      const int64_t count = std::min(kLanes, columns - column);
      if (to->column_stride == 1) {
        for (int64_t row = 0; row < rows; ++row) {
          StoreWords(ToBFloat16(Values(row, column)), to->data + row * to->row_stride + column,
                     count);
        }
      } else {
        Words block[kLanes] = {};
        for (int64_t row = 0; row < rows; ++row) block[row] = ToBFloat16(Values(row, column));
        Transpose(block);
        for (int64_t i = 0; i < count; ++i) {
          StoreWords(block[i], to->data + (column + i) * to->column_stride, rows);
        }
      }
    }
  }
};

struct UnpackKernel {
  const float* tile;
  int64_t rows, columns;
  const float* row_scales;
  float column_scale;
  float* to;
  int64_t to_stride;

  IMAGEDDPO_INLINE void operator()() const {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; column += kLanes) {
        StoreLanes(LoadLanes(tile + row * kHalfColumns + column) * row_scales[row] * column_scale,
                   to + row * to_stride + column);
      }
    }
  }
};

struct LargestKernel {
  const uint16_t* values;
  int64_t lines, line_stride, per_line;
  uint32_t* largest;

  IMAGEDDPO_INLINE void operator()() const {
    Words most = {};
    const auto keep = [&](const ShortWords& words) {
      const Words magnitude = Widened(words) & kMagnitude;
      most = magnitude > most ? magnitude : most;
    };
    if (per_line < kLanes && line_stride >= kLanes) {
      for (int64_t line = 0; line + 1 < lines; ++line) {
        keep(Load<ShortWords>(values + line * line_stride));
      }
      keep(LoadSome(values + (lines - 1) * line_stride, per_line));
    } else {
      for (int64_t line = 0; line < lines; ++line) {
        for (int64_t i = 0; i < per_line; i += kLanes) {
          keep(LoadSome(values + line * line_stride + i, per_line - i));
        }
      }
    }
    *largest = Largest(most);
  }
};

}  // namespace

float PackHalfRows(const HalfSource& source, int64_t first, int64_t rows, int64_t depth,
                   uint32_t* to) {
  float inverse = 1;
  RunHalf(RowsKernel{.source = &source,
                     .first = first,
                     .rows = rows,
                     .depth = depth,
                     .to = to,
                     .inverse = &inverse});
  return inverse;
}

float PackHalfColumns(const HalfSource& source, int64_t first, int64_t columns, int64_t depth,
                      uint16_t* to) {
  float inverse = 1;
  RunHalf(ColumnsKernel{.source = &source,
                        .first = first,
                        .columns = columns,
                        .depth = depth,
                        .to = to,
                        .inverse = &inverse});
  return inverse;
}

void MultiplyHalves(const uint32_t* rows, int64_t row_count, const uint16_t* columns,
                    int64_t column_count, int64_t depth, float* tile) {
  if (row_count > 8) return Multiply<12>(rows, columns, column_count, depth, tile);
  if (row_count > 4) return Multiply<8>(rows, columns, column_count, depth, tile);
  Multiply<4>(rows, columns, column_count, depth, tile);
}

void StoreHalfTile(const float* tile, int64_t rows, int64_t columns, float row_scale,
                   float column_scale, const HalfTarget& to) {
  RunHalf(StoreKernel{.tile = tile,
                      .rows = rows,
                      .columns = columns,
                      .row_scale = row_scale,
                      .column_scale = column_scale,
                      .to = &to});
}

void UnpackHalfTile(const float* tile, int64_t rows, int64_t columns, const float* row_scales,
                    float column_scale, float* to, int64_t to_stride) {
  RunHalf(UnpackKernel{.tile = tile,
                       .rows = rows,
                       .columns = columns,
                       .row_scales = row_scales,
                       .column_scale = column_scale,
                       .to = to,
                       .to_stride = to_stride});
}

uint32_t LargestMagnitude(const uint16_t* values, int64_t lines, int64_t line_stride,
                          int64_t per_line) {
  if (line_stride == per_line) {
    per_line *= lines;
    lines = 1;
  }
  uint32_t largest = 0;
  RunHalf(LargestKernel{.values = values,
                        .lines = lines,
                        .line_stride = line_stride,
                        .per_line = per_line,
                        .largest = &largest});
  return largest;
}

}  // namespace imageddpo
