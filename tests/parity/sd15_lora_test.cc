// A LoRA as diffusers writes it for Stable Diffusion 1.5 at true size (256 tensors, rank 4) on a
// UNet of that size. The header is diffusers' own, recorded by record_models.py; values and the
// UNet's (sparse) weights are made here.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "common/io/safetensors.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

constexpr int64_t kParameters = 797'184;
constexpr size_t kTensors = 256, kModules = 128;

std::string SourceDir() { return std::getenv("IMAGEDDPO_SOURCE_DIR"); }

class Sd15Lora : public testing::Test {
 protected:
  void SetUp() override {
    const std::string command =
        "python3 " + SourceDir() + "/tests/bench/sd15_unet.py " + dir_ / "unet";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    // In fp16 the weights stay mapped, and a sparse file takes neither disk nor memory.
    auto unet = Unet::Load(dir_ / "unet", {.dtype = at::kHalf});
    ASSERT_TRUE(unet.ok()) << unet.status();
    unet_ = *std::move(unet);

    file_ = dir_ / "pytorch_lora_weights.safetensors";
    std::filesystem::copy_file(SourceDir() + "/tests/data/parity/lora/sd15_header.safetensors",
                               file_);
    const at::Tensor values = at::randn({kParameters});
    std::ofstream out(file_, std::ios::binary | std::ios::app);
    out.write(static_cast<const char*>(values.const_data_ptr()),
              static_cast<std::streamsize>(values.nbytes()));
    ASSERT_TRUE(out.flush());
  }

  TempDir dir_;
  std::string file_;
  std::unique_ptr<Unet> unet_;
};

TEST_F(Sd15Lora, EveryTensorIsReadAndEveryModuleBound) {
  const auto written = SafetensorsFile::Open(file_);
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_EQ((*written)->names().size(), kTensors);

  const auto lora = Lora::Load(file_, unet_->linears());
  ASSERT_TRUE(lora.ok()) << lora.status();
  EXPECT_EQ(lora->modules().size(), kModules);
  EXPECT_EQ(lora->num_parameters(), kParameters);
  for (const Lora::Module& module : lora->modules()) {
    EXPECT_EQ(module.rank(), 4) << module.path;
    EXPECT_EQ(module.scale, 1.0) << module.path;
  }
  const absl::StatusOr<int> bound = unet_->BindLora(*lora);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(*bound, static_cast<int>(kModules));

  // Every tensor is used, and each module gets the values of its own name.
  const TensorMap read = lora->ToTensors();
  ASSERT_EQ(read.size(), kTensors);
  for (const std::string& name : (*written)->names()) {
    ASSERT_TRUE(read.contains(name)) << name;
    EXPECT_TRUE(at::equal(read.at(name), *(*written)->Get(name))) << name;
  }
}

TEST_F(Sd15Lora, OursForThatUnetHasTheSameNamesAndShapes) {
  const auto written = SafetensorsFile::Open(file_);
  ASSERT_TRUE(written.ok()) << written.status();
  const auto ours =
      Lora::Create(unet_->linears(), LoraConfig(),
                   [](const std::string&, at::IntArrayRef shape) { return at::zeros(shape); });
  ASSERT_TRUE(ours.ok()) << ours.status();
  const TensorMap tensors = ours->ToTensors();
  EXPECT_EQ(tensors.size(), (*written)->names().size());
  for (const std::string& name : (*written)->names()) {
    ASSERT_TRUE(tensors.contains(name)) << name;
    EXPECT_EQ(tensors.at(name).sizes(), (*written)->Get(name)->sizes()) << name;
  }
}

TEST_F(Sd15Lora, AFileThatIsCutShortIsRefusedByName) {
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) - 4);
  const auto lora = Lora::Load(file_, unet_->linears());
  ASSERT_FALSE(lora.ok());
  EXPECT_THAT(lora.status().message(), testing::HasSubstr(file_));
}

}  // namespace
}  // namespace imageddpo
