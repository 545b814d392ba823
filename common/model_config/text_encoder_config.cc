#include "common/model_config/text_encoder_config.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model_config/json_config.h"

namespace imageddpo {
namespace {

/// Fields that transformers writes into every config, or that concern training, heads or token ids
/// only.
void IgnoreBookkeeping(JsonConfig& json) {
  json.Ignore({"projection_dim", "initializer_factor", "initializer_range", "attention_dropout",
               "dropout", "bos_token_id", "eos_token_id", "pad_token_id", "gradient_checkpointing",
               "use_cache", "num_labels"});
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

}  // namespace

absl::StatusOr<TextEncoderConfig> TextEncoderConfig::Load(const std::string& config_json,
                                                          std::vector<std::string>* warnings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JsonConfig json,
                             JsonConfig::Open(config_json, "model_type", {"clip_text_model"}));

  TextEncoderConfig config;
  // Their defaults are those of another text encoder than Stable Diffusion's, and heads and
  // activation cannot be seen from the weights.
  json.RefuseNull({"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                   "hidden_act"});
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

  IMAGEDDPO_RETURN_IF_ERROR(json.Finish(warnings));
  return config;
}

}  // namespace imageddpo
