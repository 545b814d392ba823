// config.json of a model's parts, and what PEFT says of a LoRA.
#include "common/model_config/adapter_config.h"
#include "common/model_config/text_encoder_config.h"
#include "common/model_config/unet_config.h"
#include "common/model_config/vae_config.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,)"
          R"( "rank_pattern": {"to_q": 8}, "alpha_pattern": {"^mid.*to_k$": 2.5}})",
          R"({"_class_name": "UNet2DConditionModel", "act_fn": )" + std::string(30000, '[') +
              std::string(30000, ']') + "}"};
}

void Read(std::string_view input) {
  const MemoryFile file(input);
  std::vector<std::string> warnings;
  const auto unet = UnetConfig::Load(file.path(), &warnings);
  Require(!unet.ok() || !unet->levels.empty(), "a UNet has levels");
  const auto vae = VaeConfig::Load(file.path(), &warnings);
  Require(!vae.ok() || !vae->block_out_channels.empty(), "a VAE has blocks");
  TextEncoderConfig::Load(file.path(), &warnings).status().IgnoreError();
  const auto adapter = AdapterConfig::Parse(std::string(input), "input");
  if (!adapter.ok()) return;
  const std::string path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k";
  (void)adapter->RankOf(path);
  (void)adapter->AlphaOf(path, 4);
}

}  // namespace imageddpo::fuzz
