#include "common/model_config/model_count.h"

#include <string>

#include "common/io/file.h"
#include "common/io/safetensors_header.h"
#include "common/model_config/layer_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

constexpr char kTiny[] = "deploy/demo/tiny-sd";

UnetConfig Sd15Unet() {
  UnetConfig config;
  for (const int64_t channels : {320, 640, 1280, 1280}) {
    config.levels.push_back({.channels = channels,
                             .down_attention = config.levels.size() < 3,
                             .layers = 2,
                             .down_transformer_layers = {1, 1},
                             .up_transformer_layers = {1, 1, 1},
                             .num_heads = 8,
                             .cross_attention_dim = 768});
  }
  config.up_attention = {false, true, true, true};
  config.time_embedding_dim = 1280;
  config.cross_attention_dim = 768;
  return config;
}

VaeConfig Sd15Vae() {
  VaeConfig config;
  config.block_out_channels = {128, 256, 512, 512};
  config.layers_per_block = 2;
  return config;
}

TEST(LayerCounter, ByHand) {
  const AdapterTargets targets{.rank = 2, .modules = {"to_q", "to_out.0"}};
  LayerCounter net(&targets);
  net.Conv(3, 8, 3, 16);                                // 216 weights, 8 biases, 128 outputs
  net.Linear("attn1.to_q", 8, 4, 16, {.bias = false});  // 32 weights, 64 outputs
  net.Linear("attn1.to_out.0", 4, 8, 16);               // 32 + 8, 128
  net.Linear("attn1.add_to_q", 4, 8, 16);               // Another name: no adapter.
  net.Attention(16, 10, 4);
  EXPECT_DOUBLE_EQ(net.count().parameters, 216 + 8 + 32 + 40 + 40);
  EXPECT_DOUBLE_EQ(net.count().flops, 2.0 * 16 * (216 + 32 + 32 + 32) + 4.0 * 16 * 10 * 4);
  EXPECT_DOUBLE_EQ(net.count().saved_values, 128 + 64 + 128 + 128 + 64);
  EXPECT_DOUBLE_EQ(net.count().live_values, 3 * 128);
  EXPECT_DOUBLE_EQ(net.count().lora_parameters, 2 * (8 + 4) + 2 * (4 + 8));
  EXPECT_DOUBLE_EQ(net.count().adapter_inputs, (8 + 4) * 16);
}

TEST(LayerCounter, OfPartsThatAreComputedAgainOneHasItsAdaptersInputs) {
  const AdapterTargets targets{.rank = 2, .modules = {"to_q"}};
  LayerCounter net(&targets);
  net.Linear("to_q", 8, 4, 16);  // Before the parts.
  for (const int64_t in : {4, 6}) {
    net.BeginPart(in, 16);
    net.Linear("to_q", in, 4, 16);
    net.EndPart();
  }
  EXPECT_DOUBLE_EQ(net.count().adapter_inputs, (8 + 4 + 6) * 16);
  EXPECT_DOUBLE_EQ(net.count().recomputed_adapter_inputs, (8 + 6) * 16);
}

TEST(LayerCounter, PartsThatAreComputedAgain) {
  LayerCounter net;
  net.Conv(3, 8, 3, 16);  // 128 outputs
  net.BeginPart(8, 16);
  net.Conv(8, 4, 1, 16);  // 64
  net.Conv(4, 8, 1, 16);  // 128
  net.EndPart();
  net.BeginPart(8, 16);
  net.Conv(8, 2, 1, 16);  // 32
  net.EndPart();
  EXPECT_DOUBLE_EQ(net.count().saved_values, 128 + 64 + 128 + 32);
  EXPECT_DOUBLE_EQ(net.count().recomputed_values, 128 + 2 * 128 + (64 + 128));
}

TEST(ModelCount, StableDiffusion15HasTheParametersThatItIsKnownFor) {
  const PassCount unet = CountUnet(Sd15Unet(), {64, 64}, 77, {});
  EXPECT_DOUBLE_EQ(unet.parameters, 859'520'964);
  EXPECT_DOUBLE_EQ(unet.lora_parameters, 797'184);
  EXPECT_NEAR(unet.flops, 0.80e12, 0.02e12);
  const double vae = CountVaeEncoder(Sd15Vae(), {512, 512}).parameters +
                     CountVaeDecoder(Sd15Vae(), {512, 512}).parameters;
  EXPECT_DOUBLE_EQ(vae, 83'653'863);
  TextEncoderConfig text;
  text.hidden_size = 768;
  text.intermediate_size = 3072;
  text.num_attention_heads = 12;
  EXPECT_DOUBLE_EQ(CountTextEncoder(text, 77).parameters, 123'060'480);
}

// Expected numbers: torch.utils.flop_counter over diffusers' models with PEFT's LoRA, on meta
// tensors with the mathematical attention (forward; forward and backward; VAE decoding).
TEST(ModelCount, OperationsAreThoseThatTorchCounts) {
  constexpr double kForward = 180106444800.0, kForwardAndBackward = 362013299712.0;
  const PassCount unet = CountUnet(Sd15Unet(), {32, 32}, 77, {.rank = 4});
  EXPECT_DOUBLE_EQ(unet.flops, kForward);
  EXPECT_GT(unet.lora_flops, 0);
  EXPECT_NEAR(unet.flops + unet.lora_flops + unet.backward_flops, kForwardAndBackward,
              0.01 * kForwardAndBackward);
  EXPECT_DOUBLE_EQ(CountVaeDecoder(Sd15Vae(), {256, 256}).flops, 622187282432.0);
}

TEST(ModelCount, WithoutAdaptersNothingIsBackward) {
  const PassCount unet = CountUnet(Sd15Unet(), {32, 32}, 77, {.rank = 0});
  EXPECT_EQ(unet.backward_flops, 0);
  EXPECT_EQ(unet.lora_flops, 0);
  EXPECT_EQ(unet.lora_parameters, 0);
}

TEST(ModelCount, WorkGrowsWithTheImageAndTheLora) {
  const PassCount at32 = CountUnet(Sd15Unet(), {32, 32}, 77, {.rank = 4});
  const PassCount at64 = CountUnet(Sd15Unet(), {64, 64}, 77, {.rank = 16});
  EXPECT_GT(at64.flops, 4 * at32.flops);  // Attention grows faster than the pixels.
  EXPECT_GT(at64.saved_values, 3.5 * at32.saved_values);
  EXPECT_LT(at64.live_values, at64.saved_values);
  EXPECT_LT(at64.recomputed_values, 0.25 * at64.saved_values);
  EXPECT_LT(at64.live_values, at64.recomputed_values);
  EXPECT_DOUBLE_EQ(at64.parameters, at32.parameters);
  EXPECT_DOUBLE_EQ(at64.lora_parameters, 4 * at32.lora_parameters);
}

/// Values of a safetensors file.
double ValuesIn(const std::string& path) {
  const auto bytes = ReadFile(path);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  const auto header = ParseSafetensorsHeader(bytes.value_or(""), path);
  EXPECT_TRUE(header.ok()) << header.status();
  double values = 0;
  for (const SafetensorsEntry& entry :
       header.ok() ? header->tensors : SafetensorsHeader().tensors) {
    double size = 1;
    for (const int64_t side : entry.shape) size *= static_cast<double>(side);
    values += size;
  }
  return values;
}

TEST(ModelCount, TheDemosModelHasTheValuesOfItsFiles) {
  const auto count = CountModel(kTiny, {}, {});
  ASSERT_TRUE(count.ok()) << count.status();
  const std::string dir = kTiny;
  EXPECT_DOUBLE_EQ(count->unet.parameters,
                   ValuesIn(dir + "/unet/diffusion_pytorch_model.safetensors"));
  EXPECT_DOUBLE_EQ(count->encoder.parameters + count->decoder.parameters,
                   ValuesIn(dir + "/vae/diffusion_pytorch_model.safetensors"));
  EXPECT_DOUBLE_EQ(count->text.parameters, ValuesIn(dir + "/text_encoder/model.safetensors"));
  EXPECT_DOUBLE_EQ(count->unet.lora_parameters, 11'008);
  EXPECT_EQ(count->image, (PictureSize{32, 32}));
  EXPECT_DOUBLE_EQ(count->latent_values(), 4 * 8 * 8);
}

/// Two widths of attention, linear projections, several depths, odd sizes.
TEST(ModelCount, UnusualModelsHaveTheValuesOfTheirFilesToo) {
  for (const std::string name : {"sd1", "sd2", "unusual"}) {
    const std::string dir = "tests/data/parity/models/" + name;
    const auto unet = UnetConfig::Load(dir + "/unet/config.json");
    ASSERT_TRUE(unet.ok()) << unet.status();
    double values = 0;
    const auto files = ListDirectory(dir + "/unet");
    ASSERT_TRUE(files.ok()) << files.status();
    for (const std::string& file : *files) {
      if (file.ends_with(".safetensors")) values += ValuesIn(dir + "/unet/" + file);
    }
    EXPECT_DOUBLE_EQ(CountUnet(*unet, {8, 8}, 77, {}).parameters, values) << dir;
  }
}

TEST(ModelCount, NamesTheMissingFileAndTheWrongResolution) {
  EXPECT_THAT(CountModel("no/model", {}, {}).status().message(),
              HasSubstr("no/model/unet/config.json"));
  EXPECT_THAT(CountModel(kTiny, {32, 30}, {}).status().message(),
              HasSubstr("`data.resolution` to a multiple of 4"));
}

}  // namespace
}  // namespace imageddpo
