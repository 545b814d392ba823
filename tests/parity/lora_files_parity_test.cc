// Holds LoRA files as people have them against what diffusers and PEFT compute with the same files
// (see record_lora_files.py). Runs over the cases stored in the tree, or over those of the folder
// IMAGEDDPO_PARITY_LORA_FILES on the model IMAGEDDPO_PARITY_LORA_MODEL, where a live comparison is
// wanted.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/io/safetensors.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "common/sd/vae.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

constexpr double kTolerance = 2e-5;

std::string FromEnvironment(const char* name, const std::string& otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

std::string ModelFolder() {
  return FromEnvironment("IMAGEDDPO_PARITY_LORA_MODEL", "tests/data/parity/models/sd1");
}

std::vector<std::string> CaseFolders() {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(
           FromEnvironment("IMAGEDDPO_PARITY_LORA_FILES", "tests/data/parity/lora_files"))) {
    folders.push_back(entry.path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

class LoraFilesParity : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto unet = Unet::Load(ModelFolder() + "/unet", {});
    ASSERT_TRUE(unet.ok()) << unet.status();
    unet_ = *std::move(unet);
    auto vae = Vae::Load(ModelFolder() + "/vae", {});
    ASSERT_TRUE(vae.ok()) << vae.status();
    vae_ = *std::move(vae);
    auto file = SafetensorsFile::Open(GetParam() + "/expected.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    expected_ = *file;
    std::ifstream text(GetParam() + "/case.json");
    case_ = nlohmann::json::parse(text);
    path_ = GetParam() + "/" + case_.at("init_from").get<std::string>();
  }

  at::Tensor Get(const std::string& name) const { return *expected_->Get(name); }

  void ExpectSamePictures(const Lora& lora) {
    const at::NoGradGuard no_grad;
    ASSERT_TRUE(unet_->BindLora(lora).ok());
    const at::Tensor latents = Get("latents");
    const at::Tensor noise = unet_->Forward(latents, Get("timesteps"), Get("context"));
    const at::Tensor image = vae_->Decode((latents - noise) / vae_->config().scaling_factor);
    const double noise_error = (noise - Get("noise")).abs().max().item().toDouble();
    const double image_error = (image - Get("image")).abs().max().item().toDouble();
    std::printf("    noise %.2e, image %.2e\n", noise_error, image_error);
    EXPECT_LT(noise_error, kTolerance);
    EXPECT_LT(image_error, kTolerance);
  }

  std::unique_ptr<Unet> unet_;
  std::unique_ptr<Vae> vae_;
  std::shared_ptr<const SafetensorsFile> expected_;
  nlohmann::json case_;
  std::string path_;
};

TEST_P(LoraFilesParity, GivesTheSamePicturesAndSoDoesOurCopyOfIt) {
  const bool skip = case_.at("skip").get<bool>();
  std::vector<std::string> warnings;
  const auto lora =
      Lora::Load(path_, unet_->linears(),
                 {.unsupported = skip ? UnsupportedModules::kSkip : UnsupportedModules::kRefuse,
                  .warnings = &warnings});
  ASSERT_TRUE(lora.ok()) << lora.status();
  EXPECT_EQ(warnings.size(), skip ? 1u : 0u) << testing::PrintToString(warnings);
  ExpectSamePictures(*lora);

  const TempDir dir;
  ASSERT_TRUE(lora->Save(dir / "copy.safetensors").ok());
  const auto copy = Lora::Load(dir / "copy.safetensors", unet_->linears());
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->Hash(), lora->Hash());

  if (!skip) return;
  EXPECT_THAT(std::string(Lora::Load(path_, unet_->linears()).status().message()),
              testing::HasSubstr("`lora.unsupported_modules: skip`"));
}

std::string CaseName(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, LoraFilesParity, testing::ValuesIn(CaseFolders()), CaseName);

}  // namespace
}  // namespace imageddpo
