#pragma once

#include <ATen/core/Tensor.h>

namespace imageddpo {

/// Whether NarrowAttention() takes these: float32 on the CPU, heads 4, 8 or 16 wide.
bool IsNarrow(const at::Tensor& q_BHLd);

/// at::scaled_dot_product_attention() without mask: the same bits forward, with our own backward
/// pass for narrow heads. (libtorch cuts each head into small matrix products; for narrow heads
/// starting one costs more than computing it.) First derivatives only.
/// @param q_BHLd  and k_BHSd, v_BHSd: see IsNarrow().
at::Tensor NarrowAttention(const at::Tensor& q_BHLd, const at::Tensor& k_BHSd,
                           const at::Tensor& v_BHSd);

}  // namespace imageddpo
