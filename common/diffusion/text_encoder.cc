#include "common/diffusion/text_encoder.h"

#include <ATen/TensorOperators.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/diffusion/attention.h"
#include "common/diffusion/json_config.h"
#include "common/diffusion/layers.h"
#include "common/diffusion/weights.h"

namespace imageddpo {
namespace {

/// Fields that transformers writes into every config, or that concern training, heads or token ids
/// only.
void IgnoreBookkeeping(JsonConfig& json) {
  json.Ignore({"_name_or_path", "_commit_hash", "_attn_implementation_autoset", "architectures",
               "torch_dtype", "dtype", "transformers_version", "projection_dim",
               "initializer_factor", "initializer_range", "attention_dropout", "dropout",
               "bos_token_id", "eos_token_id", "pad_token_id", "gradient_checkpointing",
               "use_cache"});
  json.Ignore({"return_dict",
               "output_hidden_states",
               "output_attentions",
               "torchscript",
               "use_bfloat16",
               "tf_legacy_loss",
               "tie_word_embeddings",
               "tie_encoder_decoder",
               "max_length",
               "min_length",
               "do_sample",
               "early_stopping",
               "num_beams",
               "num_beam_groups",
               "diversity_penalty",
               "temperature",
               "top_k",
               "top_p",
               "typical_p",
               "repetition_penalty",
               "length_penalty",
               "no_repeat_ngram_size",
               "encoder_no_repeat_ngram_size",
               "bad_words_ids",
               "num_return_sequences",
               "output_scores",
               "return_dict_in_generate",
               "forced_bos_token_id",
               "forced_eos_token_id",
               "remove_invalid_values",
               "exponential_decay_length_penalty",
               "suppress_tokens",
               "begin_suppress_tokens",
               "finetuning_task",
               "id2label",
               "label2id",
               "tokenizer_class",
               "prefix",
               "sep_token_id",
               "decoder_start_token_id",
               "task_specific_params",
               "problem_type"});
  for (const char* key : {"is_encoder_decoder", "is_decoder", "add_cross_attention"})
    json.Neutral(key, false);
  json.Neutral("chunk_size_feed_forward", 0);
  json.Neutral("cross_attention_hidden_size");
  json.Neutral("pruned_heads", nlohmann::json::object());
}

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

absl::StatusOr<TextEncoderConfig> TextEncoderConfig::Load(const std::string& config_json) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JsonConfig json,
                             JsonConfig::Open(config_json, "model_type", {"clip_text_model"}));

  TextEncoderConfig config;
  config.vocab_size = json.Int("vocab_size", 49408);
  config.hidden_size = json.Int("hidden_size", 512);
  config.intermediate_size = json.Int("intermediate_size", 2048);
  config.num_hidden_layers = json.Int("num_hidden_layers", 12);
  constexpr int64_t kMaxLayers = 1000;  // Keeps a mad file from filling the memory.
  if (config.num_hidden_layers > kMaxLayers)
    json.Refuse("num_hidden_layers", absl::StrCat("at most ", kMaxLayers));
  config.num_attention_heads = json.Int("num_attention_heads", 8);
  if (config.hidden_size % config.num_attention_heads != 0)
    json.Refuse("num_attention_heads", "must divide hidden_size");
  config.max_position_embeddings = json.Int("max_position_embeddings", 77);
  config.layer_norm_eps = json.Double("layer_norm_eps", 1e-5);
  const std::string act = json.String("hidden_act", "quick_gelu");
  config.hidden_act = ParseActivation(act).value_or(Activation::kMish);
  if (config.hidden_act != Activation::kQuickGelu && config.hidden_act != Activation::kGelu) {
    json.Refuse("hidden_act", "supported: quick_gelu, gelu");
  }
  IgnoreBookkeeping(json);

  IMAGEDDPO_RETURN_IF_ERROR(json.Finish());
  return config;
}

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
                                                               const ModelOptions& options) {
  auto impl = std::make_unique<Impl>();
  IMAGEDDPO_ASSIGN_OR_RETURN(impl->config,
                             TextEncoderConfig::Load(absl::StrCat(dir, "/config.json")));
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
