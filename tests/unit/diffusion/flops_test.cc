#include "common/diffusion/flops.h"

#include <gtest/gtest.h>

namespace imageddpo {
namespace {

// Expected numbers: torch.utils.flop_counter over diffusers' models with PEFT's LoRA, on meta
// tensors with the mathematical attention (forward; forward and backward; VAE decoding).

UnetConfig StableDiffusion15() {
  UnetConfig config;
  config.sample_size = 32;
  config.cross_attention_dim = 768;
  config.time_embedding_dim = 1280;
  for (const int64_t channels : {320, 640, 1280, 1280}) {
    const bool attention = config.levels.size() < 3;
    UnetLevelConfig level;
    level.channels = channels;
    level.down_attention = attention;
    level.down_transformer_layers = {1, 1};
    level.up_transformer_layers = {1, 1, 1};
    level.cross_attention_dim = 768;
    config.levels.push_back(level);
  }
  config.up_attention = {false, true, true, true};
  return config;
}

LoraShape AttentionLora(int64_t rank) { return {rank, {"to_q", "to_k", "to_v", "to_out.0"}}; }

TEST(FlopsTest, StableDiffusion15At256Pixels) {
  constexpr double kForward = 180106444800.0, kForwardAndBackward = 362013299712.0;
  EXPECT_DOUBLE_EQ(CountUnetFlops(StableDiffusion15(), 32, 32, 77, {}).forward, kForward);
  const UnetFlops flops = CountUnetFlops(StableDiffusion15(), 32, 32, 77, AttentionLora(4));
  EXPECT_NEAR(flops.forward + flops.backward, kForwardAndBackward, 0.01 * kForwardAndBackward);
  EXPECT_GT(flops.forward, kForward);
}

TEST(FlopsTest, WithoutALoraNothingIsBackward) {
  EXPECT_EQ(CountUnetFlops(StableDiffusion15(), 32, 32, 77, {}).backward, 0);
}

TEST(FlopsTest, VaeDecoding) {
  VaeConfig config;
  config.block_out_channels = {128, 256, 512, 512};
  config.layers_per_block = 2;
  EXPECT_DOUBLE_EQ(CountVaeDecodeFlops(config, 32, 32), 622187282432.0);
}

}  // namespace
}  // namespace imageddpo
