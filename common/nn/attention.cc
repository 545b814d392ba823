#include "common/nn/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "common/kernels/narrow_attention.h"
#include "common/nn/fused_layers.h"

namespace imageddpo {

at::Tensor MultiHeadAttention(const at::Tensor& q_BLD, const at::Tensor& k_BSD,
                              const at::Tensor& v_BSD, int64_t heads, bool causal) {
  const int64_t batch = q_BLD.size(0), head_dim = q_BLD.size(2) / heads;
  const auto split = [&](const at::Tensor& x) {
    return x.view({batch, -1, heads, head_dim}).transpose(1, 2);
  };
  const at::Tensor q_BHLd = split(q_BLD), k_BHSd = split(k_BSD), v_BHSd = split(v_BSD);
  const at::Tensor y_BHLd =
      IsNarrow(q_BHLd) && !causal
          ? NarrowAttention(q_BHLd, k_BHSd, v_BHSd)
          : at::scaled_dot_product_attention(q_BHLd, k_BHSd, v_BHSd, /*attn_mask=*/{},
                                             /*dropout_p=*/0.0, causal);
  return y_BHLd.transpose(1, 2).reshape({batch, -1, heads * head_dim});
}

Attention Attention::Load(const ModelLoader& at, const Options& options) {
  Attention attention;
  attention.to_q =
      Linear::Load(at.At("to_q"), options.query_dim, options.inner_dim, /*bias=*/false);
  attention.to_k =
      Linear::Load(at.At("to_k"), options.context_dim, options.inner_dim, /*bias=*/false);
  attention.to_v =
      Linear::Load(at.At("to_v"), options.context_dim, options.inner_dim, /*bias=*/false);
  attention.to_out = Linear::Load(at.At("to_out.0"), options.inner_dim, options.query_dim);
  attention.heads = options.heads;
  attention.upcast = options.upcast;
  return attention;
}

KeysValues Attention::Project(const at::Tensor& context_BSD) const {
  return {to_k.Forward(context_BSD), to_v.Forward(context_BSD)};
}

at::Tensor Attention::Attend(at::Tensor q_BLD, KeysValues context, at::ScalarType dtype) const {
  if (upcast) {
    q_BLD = q_BLD.to(at::kFloat);
    context = {context.key_RSD.to(at::kFloat), context.value_RSD.to(at::kFloat)};
  }
  return to_out.Forward(
      MultiHeadAttention(q_BLD, context.key_RSD, context.value_RSD, heads, /*causal=*/false)
          .to(dtype));
}

at::Tensor Attention::Forward(const at::Tensor& x_BLD, const KeysValues& context) const {
  return Attend(to_q.Forward(x_BLD), context, x_BLD.scalar_type());
}

at::Tensor Attention::ForwardSelf(const at::Tensor& x_BLD) const {
  // In this order, in which their gradients are added.
  const std::vector<at::Tensor> kvq_BLD = ForwardTogether({&to_k, &to_v, &to_q}, x_BLD);
  return Attend(kvq_BLD[2], {kvq_BLD[0], kvq_BLD[1]}, x_BLD.scalar_type());
}

FeedForward FeedForward::Load(const ModelLoader& at, int64_t dim) {
  constexpr int64_t kExpansion = 4;
  FeedForward ff;
  ff.proj = Linear::Load(at.At("net.0.proj"), dim, 2 * kExpansion * dim);
  ff.out = Linear::Load(at.At("net.2"), kExpansion * dim, dim);
  return ff;
}

at::Tensor FeedForward::Forward(const at::Tensor& x_BLD) const {
  const at::Tensor both = proj.Forward(x_BLD);
  if (proj.fused && proj.fused->TakesGeglu(both)) {
    return out.Forward(FusedGeglu(*proj.fused, both));
  }
  const std::vector<at::Tensor> halves = both.chunk(2, -1);
  return out.Forward(halves[0] * at::gelu(halves[1]));
}

at::Tensor BasicTransformerBlock::Forward(const at::Tensor& x_BLD,
                                          const ProjectedText& text) const {
  const at::Tensor normed_BLD = norm1.Forward(x_BLD);
  at::Tensor y_BLD = (only_cross_attention ? attn1.Forward(normed_BLD, text[attn1.text_index])
                                           : attn1.ForwardSelf(normed_BLD)) +
                     x_BLD;
  y_BLD = attn2.Forward(norm2.Forward(y_BLD), text[attn2.text_index]) + y_BLD;
  return ff.Forward(norm3.Forward(y_BLD)) + y_BLD;
}

Transformer2d Transformer2d::Load(const ModelLoader& at, const Options& options) {
  constexpr double kGroupNormEps = 1e-6;
  constexpr double kLayerNormEps = 1e-5;
  // Where the heads do not divide the channels, the rest is left out, as the models were built.
  const int64_t inner = options.channels / options.heads * options.heads;

  Transformer2d transformer;
  transformer.norm =
      GroupNorm::Load(at.At("norm"), options.channels, options.norm_groups, kGroupNormEps);
  transformer.use_linear_projection = options.use_linear_projection;
  if (options.use_linear_projection) {
    transformer.linear_in = Linear::Load(at.At("proj_in"), options.channels, inner);
    transformer.linear_out = Linear::Load(at.At("proj_out"), inner, options.channels);
  } else {
    transformer.conv_in = Conv2d::Load(at.At("proj_in"), options.channels, inner, /*kernel=*/1);
    transformer.conv_out = Conv2d::Load(at.At("proj_out"), inner, options.channels, /*kernel=*/1);
  }

  Attention::Options self = {
      .query_dim = inner,
      .context_dim = options.only_cross_attention ? options.cross_attention_dim : inner,
      .inner_dim = inner,
      .heads = options.heads,
      .upcast = options.upcast_attention};
  Attention::Options cross = self;
  cross.context_dim = options.cross_attention_dim;
  for (int64_t i = 0; i < options.layers; ++i) {
    const ModelLoader block_at = at.At("transformer_blocks", i);
    BasicTransformerBlock block;
    block.norm1 = LayerNorm::Load(block_at.At("norm1"), inner, kLayerNormEps);
    block.attn1 = Attention::Load(block_at.At("attn1"), self);
    block.norm2 = LayerNorm::Load(block_at.At("norm2"), inner, kLayerNormEps);
    block.attn2 = Attention::Load(block_at.At("attn2"), cross);
    block.norm3 = LayerNorm::Load(block_at.At("norm3"), inner, kLayerNormEps);
    block.ff = FeedForward::Load(block_at.At("ff"), inner);
    block.only_cross_attention = options.only_cross_attention;
    transformer.blocks.push_back(std::move(block));
  }
  return transformer;
}

void Transformer2d::ListTextAttentions(std::vector<Attention*>* attentions) {
  for (BasicTransformerBlock& block : blocks) {
    if (block.only_cross_attention) attentions->push_back(&block.attn1);
    attentions->push_back(&block.attn2);
  }
}

at::Tensor Transformer2d::Forward(const at::Tensor& x_BCHW, const ProjectedText& text) const {
  const int64_t batch = x_BCHW.size(0), height = x_BCHW.size(2), width = x_BCHW.size(3);
  const auto to_positions = [&](const at::Tensor& y) {
    return y.permute({0, 2, 3, 1}).reshape({batch, height * width, y.size(1)});
  };
  const auto to_pixels = [&](const at::Tensor& y) {
    const at::Tensor pixels = y.reshape({batch, height, width, y.size(2)}).permute({0, 3, 1, 2});
    return norm.fused ? pixels : pixels.contiguous();  // Channels-last, as the kernels want it.
  };

  at::Tensor y = norm.Forward(x_BCHW);
  y = use_linear_projection ? linear_in.Forward(to_positions(y)) : to_positions(conv_in.Forward(y));
  for (const BasicTransformerBlock& block : blocks) y = block.Forward(y, text);
  y = use_linear_projection ? to_pixels(linear_out.Forward(y)) : conv_out.Forward(to_pixels(y));
  return y + x_BCHW;
}

}  // namespace imageddpo
