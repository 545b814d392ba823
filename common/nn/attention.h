#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/nn/layers.h"
#include "common/nn/projected_text.h"

namespace imageddpo {

// The attention layers of the UNet. Shape letters: B batch, L positions, S context positions, D
// width, C channels, H W height and width.

/// Multi-head attention: softmax(Q K^T / sqrt(head width)) V.
struct Attention {
  Linear to_q, to_k, to_v, to_out;
  int64_t heads = 1;
  size_t text_index = 0;  ///< In a ProjectedText, of a layer that attends to the text.
  bool upcast = false;    ///< Queries, keys and values in float32 in a model of lower precision.

  struct Options {
    int64_t query_dim = 0;
    int64_t context_dim = 0;
    int64_t inner_dim = 0;
    int64_t heads = 1;
    bool upcast = false;
  };
  /// Weights `to_q`, `to_k`, `to_v` (no bias) and `to_out.0`.
  static Attention Load(const ModelLoader& at, const Options& options);
  KeysValues Project(const at::Tensor& context_BSD) const;
  at::Tensor Forward(const at::Tensor& x_BLD, const KeysValues& context) const;
  at::Tensor ForwardSelf(const at::Tensor& x_BLD) const;  ///< Attends to x itself.

 private:
  at::Tensor Attend(at::Tensor q_BLD, KeysValues context, at::ScalarType dtype) const;
};

/// The part between the projections, shared with models whose projections are named otherwise.
/// @return [B, L, inner_dim]
at::Tensor MultiHeadAttention(const at::Tensor& q_BLD, const at::Tensor& k_BSD,
                              const at::Tensor& v_BSD, int64_t heads, bool causal);

/// GEGLU feed-forward: out(a · gelu(b)), where (a, b) are the halves of one projection.
struct FeedForward {
  Linear proj, out;

  static FeedForward Load(const ModelLoader& at, int64_t dim);
  at::Tensor Forward(const at::Tensor& x_BLD) const;
};

/// Self-attention (or, where only_cross_attention, attention to the context), attention to the
/// context, feed-forward; each behind a layer norm and added to its input.
struct BasicTransformerBlock {
  LayerNorm norm1, norm2, norm3;
  Attention attn1, attn2;
  FeedForward ff;
  bool only_cross_attention = false;

  at::Tensor Forward(const at::Tensor& x_BLD, const ProjectedText& text) const;
};

/// Transformer blocks over the pixels of a feature map, added to it.
struct Transformer2d {
  struct Options {
    int64_t channels = 0;
    int64_t heads = 1;
    int64_t layers = 1;
    int64_t cross_attention_dim = 0;
    int64_t norm_groups = 32;
    bool use_linear_projection = false;
    bool only_cross_attention = false;
    bool upcast_attention = false;
  };

  GroupNorm norm;
  bool use_linear_projection = false;
  Conv2d conv_in, conv_out;      ///< Used where use_linear_projection is false,
  Linear linear_in, linear_out;  ///< and these where it is true.
  std::vector<BasicTransformerBlock> blocks;

  static Transformer2d Load(const ModelLoader& at, const Options& options);
  at::Tensor Forward(const at::Tensor& x_BCHW, const ProjectedText& text) const;
  /// Appends the layers that attend to the text.
  void ListTextAttentions(std::vector<Attention*>* attentions);
};

}  // namespace imageddpo
