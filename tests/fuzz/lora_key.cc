// Names of tensors in LoRA files, whichever program wrote them.
#include "common/lora/lora_keys.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {
      "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight",
      "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.processor.to_k_lora.up.weight",
      "base_model.model.mid_block.attentions.0.proj_in.lora_A.default.weight",
      "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_v.alpha",
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
      "lora_unet_up_blocks_1_resnets_0_conv1.lora_mid.weight"};
}

void Read(std::string_view input) {
  const LoraKey key = ParseLoraKey(input);
  Require(key.foreign.empty() || key.module.empty(), "what is not read names no module");
}

}  // namespace imageddpo::fuzz
