#include "common/sd/text_encoder.h"

#include <ATen/TensorOperators.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/nn/activation.h"
#include "common/nn/attention.h"
#include "common/nn/layers.h"
#include "common/nn/weight_map.h"

namespace imageddpo {
namespace {

struct EncoderLayer {
  LayerNorm layer_norm1, layer_norm2;
  Linear q_proj, k_proj, v_proj, out_proj, fc1, fc2;

  static EncoderLayer Load(const ModelLoader& at, const TextEncoderConfig& config) {
    const int64_t width = config.hidden_size, inner = config.intermediate_size;
    EncoderLayer layer;
    layer.layer_norm1 = LayerNorm::Load(at.At("layer_norm1"), width, config.layer_norm_eps);
    layer.q_proj = Linear::Load(at.At("self_attn.q_proj"), width, width);
    layer.k_proj = Linear::Load(at.At("self_attn.k_proj"), width, width);
    layer.v_proj = Linear::Load(at.At("self_attn.v_proj"), width, width);
    layer.out_proj = Linear::Load(at.At("self_attn.out_proj"), width, width);
    layer.layer_norm2 = LayerNorm::Load(at.At("layer_norm2"), width, config.layer_norm_eps);
    layer.fc1 = Linear::Load(at.At("mlp.fc1"), width, inner);
    layer.fc2 = Linear::Load(at.At("mlp.fc2"), inner, width);
    return layer;
  }

  at::Tensor Forward(const at::Tensor& x_BLD, const TextEncoderConfig& config) const {
    const at::Tensor normed_BLD = layer_norm1.Forward(x_BLD);
    const at::Tensor attended_BLD =
        MultiHeadAttention(q_proj.Forward(normed_BLD), k_proj.Forward(normed_BLD),
                           v_proj.Forward(normed_BLD), config.num_attention_heads,
                           /*causal=*/true);
    const at::Tensor y_BLD = x_BLD + out_proj.Forward(attended_BLD);
    return y_BLD +
           fc2.Forward(Activate(config.hidden_act, fc1.Forward(layer_norm2.Forward(y_BLD))));
  }
};

}  // namespace

struct TextEncoder::Impl {
  TextEncoderConfig config;
  Embedding token_embedding, position_embedding;
  std::vector<EncoderLayer> layers;
  LayerNorm final_layer_norm;
};

TextEncoder::TextEncoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TextEncoder::~TextEncoder() = default;

const TextEncoderConfig& TextEncoder::config() const { return impl_->config; }

absl::StatusOr<std::unique_ptr<TextEncoder>> TextEncoder::Load(const std::string& dir,
                                                               const ModelOptions& options,
                                                               std::vector<std::string>* warnings) {
  auto impl = std::make_unique<Impl>();
  IMAGEDDPO_ASSIGN_OR_RETURN(impl->config,
                             TextEncoderConfig::Load(absl::StrCat(dir, "/config.json"), warnings));
  IMAGEDDPO_ASSIGN_OR_RETURN(WeightMap weights, WeightMap::Open(dir, "model", options));
  ModelLoader root(&weights, nullptr);
  if (weights.ContainsPrefix("text_model.")) root = root.At("text_model");
  const ModelLoader embeddings = root.At("embeddings");
  const int64_t width = impl->config.hidden_size;
  impl->token_embedding =
      Embedding::Load(embeddings.At("token_embedding"), impl->config.vocab_size, width);
  impl->position_embedding = Embedding::Load(embeddings.At("position_embedding"),
                                             impl->config.max_position_embeddings, width);
  for (int64_t i = 0; i < impl->config.num_hidden_layers; ++i) {
    impl->layers.push_back(EncoderLayer::Load(root.At("encoder.layers", i), impl->config));
  }
  impl->final_layer_norm =
      LayerNorm::Load(root.At("final_layer_norm"), width, impl->config.layer_norm_eps);
  // 0, 1, 2, …, and the head that only pooled embeddings go through.
  weights.Drop(embeddings.Path("position_ids"));
  weights.Drop("text_projection.weight");
  IMAGEDDPO_RETURN_IF_ERROR(weights.Finish());
  return std::unique_ptr<TextEncoder>(new TextEncoder(std::move(impl)));
}

at::Tensor TextEncoder::Forward(const at::Tensor& token_ids_BL) const {
  const Impl& m = *impl_;
  const at::Tensor positions_LD = m.position_embedding.weight_VC.narrow(0, 0, token_ids_BL.size(1));
  at::Tensor x_BLD = m.token_embedding.Forward(token_ids_BL) + positions_LD;
  for (const EncoderLayer& layer : m.layers) x_BLD = layer.Forward(x_BLD, m.config);
  return m.final_layer_norm.Forward(x_BLD).to(at::kFloat);
}

}  // namespace imageddpo
