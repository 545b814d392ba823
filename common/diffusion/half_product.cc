#include "common/diffusion/half_product.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "common/diffusion/half_kernel.h"
#include "common/diffusion/input_gradient.h"
#include "common/diffusion/processor.h"
#include "common/diffusion/threads.h"
#include "common/diffusion/workspace.h"

namespace imageddpo {
namespace {

/// What IsHalfProduct() goes by; measured, see docs/architecture.md.
constexpr int64_t kLeastTokens = 16;
constexpr int64_t kLeastFeatures = 64;

/// Rows that are packed at once, where they are not all: what the nearest caches hold.
constexpr int64_t kMostRowBytes = int64_t{256} << 10;

/// Matrices of the linear layers here: tokens × features, where tokens of an image lie at one
/// stride and images at another.
struct TokenMatrix {
  uint16_t* data;
  int64_t tokens, per_image, image_stride, token_stride;
  int64_t features, feature_stride;

  HalfSource Source() const {
    return {.data = data,
            .outer = tokens,
            .per_group = per_image,
            .group_stride = image_stride,
            .outer_stride = token_stride,
            .depth_stride = feature_stride};
  }
};

uint16_t* Bits(const at::Tensor& tensor) {
  return reinterpret_cast<uint16_t*>(const_cast<void*>(tensor.const_data_ptr()));
}

TokenMatrix RowsOfFeatures(const at::Tensor& x_NI) {
  const int64_t tokens = x_NI.size(0), features = x_NI.size(1);
  return {.data = Bits(x_NI),
          .tokens = tokens,
          .per_image = tokens,
          .image_stride = 0,
          .token_stride = features,
          .features = features,
          .feature_stride = 1};
}

TokenMatrix Channels(const at::Tensor& x_BIL) {
  const int64_t features = x_BIL.size(1), positions = x_BIL.size(2);
  return {.data = Bits(x_BIL),
          .tokens = x_BIL.size(0) * positions,
          .per_image = positions,
          .image_stride = features * positions,
          .token_stride = 1,
          .features = features,
          .feature_stride = positions};
}

/// W [out, in] as features in are made into features out, or, `transposed`, the other way.
HalfSource WeightSource(const at::Tensor& weight_OI, bool transposed) {
  const int64_t out = weight_OI.size(0), in = weight_OI.size(1);
  const int64_t outer = transposed ? in : out;
  return {.data = Bits(weight_OI),
          .outer = outer,
          .per_group = outer,
          .group_stride = 0,
          .outer_stride = transposed ? 1 : in,
          .depth_stride = transposed ? in : 1};
}

int64_t Blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// About how long it takes to bring the matrices into the order of a product and back, in units of
/// a value: rows want their depth dense, columns their outer dimension.
int64_t PackingCost(const HalfSource& rows, const HalfSource& columns, int64_t depth,
                    bool columns_dense_in_y) {
  const int64_t transposed_rows = rows.depth_stride == 1 ? 0 : 4 * rows.outer * depth;
  const int64_t transposed_columns = columns.depth_stride == 1 ? columns.outer * depth : 0;
  const int64_t transposed_tiles = columns_dense_in_y ? 0 : 3 * rows.outer * columns.outer;
  return transposed_rows + transposed_columns + transposed_tiles;
}

/// y = rows · columns, in tiles.
class Product {
 public:
  /// @param y  whose tokens are the rows, or, `transposed`, the columns.
  /// @param bias  of y's features; null: none.
  Product(const HalfSource& rows, const HalfSource& columns, int64_t depth, const TokenMatrix& y,
          const uint16_t* bias, bool transposed)
      : rows_(rows),
        columns_(columns),
        depth_(depth),
        y_(y),
        bias_(bias),
        transposed_(transposed) {}

  void Run() const {
    if (PackedRows(rows_.outer) * sizeof(uint32_t) <
        PackedColumns(columns_.outer) * sizeof(uint16_t)) {
      ByColumns();
    } else {
      ByRows();
    }
  }

 private:
  int64_t PackedRows(int64_t rows) const { return Blocks(rows, kHalfRows) * kHalfRows * depth_; }
  int64_t PackedColumns(int64_t columns) const {
    return Blocks(columns, kHalfColumns) * kHalfColumns * depth_;
  }
  int64_t CountRows(int64_t block) const {
    return std::min(kHalfRows, rows_.outer - block * kHalfRows);
  }
  int64_t CountColumns(int64_t panel) const {
    return std::min(kHalfColumns, columns_.outer - panel * kHalfColumns);
  }
  float PackRows(int64_t block, uint32_t* to) const {
    return PackHalfRows(rows_, block * kHalfRows, CountRows(block), depth_, to);
  }
  float PackColumns(int64_t panel, uint16_t* to) const {
    return PackHalfColumns(columns_, panel * kHalfColumns, CountColumns(panel), depth_, to);
  }

  /// All columns are packed, and then, in each thread, some rows at a time.
  void ByRows() const {
    const int64_t blocks = Blocks(rows_.outer, kHalfRows);
    const int64_t panels = Blocks(columns_.outer, kHalfColumns);
    const int64_t threads = ThreadCount(), block_size = kHalfRows * depth_;
    const int64_t most = kMostRowBytes / static_cast<int64_t>(block_size * sizeof(uint32_t));
    const int64_t step = std::clamp<int64_t>(most, 1, Blocks(blocks, threads));

    auto* const scratch =
        static_cast<uint32_t*>(ThreadWorkspace(threads * step * block_size * sizeof(uint32_t) +
                                               PackedColumns(columns_.outer) * sizeof(uint16_t)));
    auto* const columns = reinterpret_cast<uint16_t*>(scratch + threads * step * block_size);
    std::vector<float> column_scales(panels);
    ParallelFor(panels, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        column_scales[panel] = PackColumns(panel, columns + panel * kHalfColumns * depth_);
      }
    });
    ParallelFor(Blocks(blocks, step), [&](int64_t begin, int64_t end) {
      uint32_t* const rows = scratch + ThreadIndex() * step * block_size;
      std::vector<float> row_scales(step);
      for (int64_t group = begin; group < end; ++group) {
        const int64_t first = group * step, count = std::min(step, blocks - first);
        for (int64_t i = 0; i < count; ++i) {
          row_scales[i] = PackRows(first + i, rows + i * block_size);
        }
        for (int64_t panel = 0; panel < panels; ++panel) {
          for (int64_t i = 0; i < count; ++i) {
            Tile(first + i, rows + i * block_size, row_scales[i], panel,
                 columns + panel * kHalfColumns * depth_, column_scales[panel]);
          }
        }
      }
    });
  }

  /// All rows are packed, and then, in each thread, kHalfColumns columns at a time.
  void ByColumns() const {
    const int64_t blocks = Blocks(rows_.outer, kHalfRows);
    const int64_t panels = Blocks(columns_.outer, kHalfColumns);
    const int64_t threads = ThreadCount(), panel_size = kHalfColumns * depth_;
    auto* const scratch = static_cast<uint16_t*>(ThreadWorkspace(
        threads * panel_size * sizeof(uint16_t) + PackedRows(rows_.outer) * sizeof(uint32_t)));
    auto* const rows = reinterpret_cast<uint32_t*>(scratch + threads * panel_size);
    std::vector<float> row_scales(blocks);
    ParallelFor(blocks, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        row_scales[block] = PackRows(block, rows + block * kHalfRows * depth_);
      }
    });
    ParallelFor(panels, [&](int64_t begin, int64_t end) {
      uint16_t* const columns = scratch + ThreadIndex() * panel_size;
      for (int64_t panel = begin; panel < end; ++panel) {
        const float column_scale = PackColumns(panel, columns);
        for (int64_t block = 0; block < blocks; ++block) {
          Tile(block, rows + block * kHalfRows * depth_, row_scales[block], panel, columns,
               column_scale);
        }
      }
    });
  }

  void Tile(int64_t block, const uint32_t* rows, float row_scale, int64_t panel,
            const uint16_t* columns, float column_scale) const {
    // Parts of a tile are stored in whole vectors.
    alignas(64) float tile[(kHalfRows + 1) * kHalfColumns];
    const int64_t row_count = CountRows(block), column_count = CountColumns(panel);
    MultiplyHalves(rows, row_count, columns, column_count, depth_, tile);
    const int64_t row = block * kHalfRows, column = panel * kHalfColumns;
    const int64_t first_token = transposed_ ? column : row;
    const int64_t last_token = first_token + (transposed_ ? column_count : row_count);
    const int64_t first_feature = transposed_ ? row : column;
    const uint16_t* const bias = bias_ == nullptr ? nullptr : bias_ + first_feature;
    for (int64_t token = first_token; token < last_token;) {
      const int64_t image = token / y_.per_image, position = token % y_.per_image;
      const int64_t count = std::min(last_token - token, y_.per_image - position);
      uint16_t* const to = y_.data + image * y_.image_stride + position * y_.token_stride +
                           first_feature * y_.feature_stride;
      const int64_t offset = token - first_token;
      if (transposed_) {
        StoreHalfTile(tile + offset, row_count, count, row_scale, column_scale,
                      {.data = to,
                       .row_stride = y_.feature_stride,
                       .column_stride = y_.token_stride,
                       .row_bias = bias,
                       .column_bias = nullptr});
      } else {
        StoreHalfTile(tile + offset * kHalfColumns, count, column_count, row_scale, column_scale,
                      {.data = to,
                       .row_stride = y_.token_stride,
                       .column_stride = y_.feature_stride,
                       .row_bias = nullptr,
                       .column_bias = bias});
      }
      token += count;
    }
  }

  HalfSource rows_, columns_;
  int64_t depth_;
  TokenMatrix y_;
  const uint16_t* bias_;
  bool transposed_;
};

/// y = x W^T + b, or, `transposed`, x W.
void Multiply(const TokenMatrix& x, const at::Tensor& weight_OI, const at::Tensor& bias_O,
              bool transposed, const TokenMatrix& y) {
  const HalfSource tokens = x.Source(), weights = WeightSource(weight_OI, transposed);
  const uint16_t* const bias = bias_O.defined() ? Bits(bias_O) : nullptr;
  const int64_t depth = x.features;
  const bool weights_are_rows = PackingCost(weights, tokens, depth, y.token_stride == 1) <
                                PackingCost(tokens, weights, depth, y.feature_stride == 1);
  if (weights_are_rows) {
    Product(weights, tokens, depth, y, bias, /*transposed=*/true).Run();
  } else {
    Product(tokens, weights, depth, y, bias, /*transposed=*/false).Run();
  }
}

at::Tensor MultiplyLinear(const at::Tensor& x, const at::Tensor& weight_OI,
                          const at::Tensor& bias_O, bool transposed) {
  const at::NoGradGuard no_grad;
  const at::Tensor x_NI = x.reshape({-1, x.size(-1)}).contiguous(), weight = weight_OI.contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(transposed ? 1 : 0);
  at::Tensor y = at::empty(shape, x.options());
  Multiply(RowsOfFeatures(x_NI), weight, bias_O, transposed,
           RowsOfFeatures(y.view({-1, shape.back()})));
  return y;
}

at::Tensor MultiplyChannels(const at::Tensor& x_BIL, const at::Tensor& weight_OI,
                            const at::Tensor& bias_O, bool transposed) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = x_BIL.contiguous(), weight = weight_OI.contiguous();
  at::Tensor y_BOL =
      at::empty({x.size(0), weight.size(transposed ? 1 : 0), x.size(2)}, x.options());
  Multiply(Channels(x), weight, bias_O, transposed, Channels(y_BOL));
  return y_BOL;
}

}  // namespace

bool IsHalfProduct(const at::Tensor& x, int64_t tokens, const at::Tensor& weight_OI) {
  return PrefersHalfArithmetic() && x.is_cpu() && x.scalar_type() == at::kBFloat16 &&
         weight_OI.scalar_type() == at::kBFloat16 && tokens >= kLeastTokens &&
         weight_OI.size(0) >= kLeastFeatures && weight_OI.size(1) >= kLeastFeatures;
}

at::Tensor HalfLinear(const at::Tensor& x, const at::Tensor& weight_OI, const at::Tensor& bias_O) {
  return WithInputGradient(x, MultiplyLinear(x, weight_OI, bias_O, /*transposed=*/false),
                           [weight_OI](const at::Tensor& y_grad) {
                             return MultiplyLinear(y_grad, weight_OI, /*bias_O=*/{},
                                                   /*transposed=*/true);
                           });
}

at::Tensor HalfChannelsLinear(const at::Tensor& x_BIL, const at::Tensor& weight_OI,
                              const at::Tensor& bias_O) {
  return WithInputGradient(x_BIL, MultiplyChannels(x_BIL, weight_OI, bias_O, /*transposed=*/false),
                           [weight_OI](const at::Tensor& y_grad_BOL) {
                             return MultiplyChannels(y_grad_BOL, weight_OI, /*bias_O=*/{},
                                                     /*transposed=*/true);
                           });
}

}  // namespace imageddpo
