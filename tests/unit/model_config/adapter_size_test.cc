#include "common/model_config/adapter_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/io/safetensors_header.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A file of zeros.
std::string FileOf(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors) {
  SafetensorsHeader header;
  size_t bytes = 0;
  for (const auto& [name, shape] : tensors) {
    size_t size_bytes = 4;
    for (const int64_t length : shape) size_bytes *= static_cast<size_t>(length);
    header.tensors.push_back({.name = name, .shape = shape, .size_bytes = size_bytes});
    bytes += size_bytes;
  }
  return FormatSafetensorsHeader(header).value() + std::string(bytes, '\0');
}

TEST(ReadAdapterSize, ReadsNothingButTheHeader) {
  const TempDir dir;
  constexpr int64_t kLength = 5'000'000'000;  // 40 GB of weights, in a sparse file.
  SafetensorsHeader header;
  header.tensors = {
      {.name = "x.to_q.lora_A.weight", .shape = {2, kLength}, .size_bytes = 8 * kLength}};
  const std::string head = FormatSafetensorsHeader(header).value();
  const std::string file = dir.Write("lora.safetensors", head);
  std::filesystem::resize_file(file, head.size() + 8 * kLength);
  const absl::StatusOr<AdapterSize> size = ReadAdapterSize(file);
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(size->parameters, 2.0 * kLength);
  EXPECT_EQ(size->targets.rank, 2);
  std::filesystem::resize_file(file, head.size() + 100);
  EXPECT_THAT(std::string(ReadAdapterSize(file).status().message()), HasSubstr("truncated"));
}

TEST(ReadAdapterSize, CountsWhatIsTrainedInEverySpelling) {
  const TempDir dir;
  dir.Write("lora.safetensors",
            FileOf({{"base_model.model.mid_block.attn1.to_q.lora_A.weight", {2, 8}},
                    {"base_model.model.mid_block.attn1.to_q.lora_B.weight", {8, 2}},
                    {"lora_unet_mid_block_attn1_to_out_0.lora_down.weight", {3, 8, 1, 1}},
                    {"lora_unet_mid_block_attn1_to_out_0.lora_up.weight", {8, 3, 1, 1}},
                    {"lora_unet_mid_block_attn1_to_out_0.alpha", {}},
                    {"unet.mid_block.attn1.processor.to_v_lora.down.weight", {1, 8}},
                    {"unet.mid_block.attn1.processor.to_v_lora.up.weight", {8, 1}},
                    {"lora_unet_mid_block_conv.lora_down.weight", {9, 8, 3, 3}},
                    {"lora_te_text_model_q_proj.lora_down.weight", {7, 8}}}));
  const auto size = ReadAdapterSize(dir / "lora.safetensors");
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(size->parameters, 2 * 16 + 2 * 24 + 2 * 8);
  EXPECT_EQ(size->targets.rank, 3);
  EXPECT_THAT(size->targets.modules, ElementsAre("to_q", "to_v", "to_out.0"));
}

TEST(ReadAdapterSize, NamesAFileWithoutALora) {
  const TempDir dir;
  dir.Write("other.safetensors", FileOf({{"conv_in.weight", {8, 4}}}));
  EXPECT_THAT(std::string(ReadAdapterSize(dir / "other.safetensors").status().message()),
              HasSubstr("other.safetensors has no LoRA"));
  EXPECT_FALSE(ReadAdapterSize(dir / "none.safetensors").ok());
}

}  // namespace
}  // namespace imageddpo
