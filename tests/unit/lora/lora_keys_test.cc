#include "common/lora/lora_keys.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/sd/unet.h"

namespace imageddpo {
namespace {

TEST(LoraNames, NamesOfBlocksAsInTheOriginal) {
  const auto unet = Unet::Load("tests/data/parity/models/sd1/unet", {});
  ASSERT_TRUE(unet.ok()) << unet.status();
  const std::vector<LinearInfo> linears = (*unet)->linears();
  const LoraNames names(linears);
  const auto path = [&](const std::string& name) {
    const LinearInfo* const found = names.Find(name);
    return found == nullptr ? "" : found->path;
  };
  // One resnet in a down block, two in an up block; two levels.
  EXPECT_EQ(path("input_blocks_1_1_transformer_blocks_0_attn1_to_q"),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q");
  EXPECT_EQ(path("input_blocks.1.1.proj_in"), "down_blocks.0.attentions.0.proj_in");
  EXPECT_EQ(path("input_blocks_3_0_emb_layers_1"), "down_blocks.1.resnets.0.time_emb_proj");
  EXPECT_EQ(path("input_blocks_3_0_skip_connection"), "down_blocks.1.resnets.0.conv_shortcut");
  EXPECT_EQ(path("middle_block_0_emb_layers_1"), "mid_block.resnets.0.time_emb_proj");
  EXPECT_EQ(path("middle_block_1_proj_out"), "mid_block.attentions.0.proj_out");
  EXPECT_EQ(path("middle_block_2_emb_layers_1"), "mid_block.resnets.1.time_emb_proj");
  EXPECT_EQ(path("output_blocks_1_0_emb_layers_1"), "up_blocks.0.resnets.1.time_emb_proj");
  EXPECT_EQ(path("output_blocks_3_1_transformer_blocks_0_ff_net_2"),
            "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2");
  EXPECT_EQ(path("time_embed_0"), "time_embedding.linear_1");
  EXPECT_EQ(path("time_embed_2"), "time_embedding.linear_2");
  EXPECT_EQ(path("input_blocks_2_0_op"), "") << "a convolution of 3×3";
  for (const LinearInfo& linear : linears) EXPECT_EQ(path(linear.path), linear.path);
}

}  // namespace
}  // namespace imageddpo
