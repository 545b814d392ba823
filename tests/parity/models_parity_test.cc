// Holds our models against recordings of diffusers and transformers (see record_models.py). Runs
// over the cases stored in the tree, or over the folders in IMAGEDDPO_PARITY_MODELS (each a set of
// cases), where a live comparison is wanted.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/io/safetensors.h"
#include "common/lora/lora.h"
#include "common/sd/text_encoder.h"
#include "common/sd/unet.h"
#include "common/sd/vae.h"

namespace imageddpo {
namespace {

constexpr double kTolerance = 2e-5;
constexpr double kGradientTolerance = 1e-4;  // Of each gradient's norm.

std::vector<std::string> CaseFolders() {
  const char* root = std::getenv("IMAGEDDPO_PARITY_MODELS");
  std::vector<std::string> folders;
  for (const auto& entry :
       std::filesystem::directory_iterator(root != nullptr ? root : "tests/data/parity/models")) {
    folders.push_back(entry.path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

class ModelsParity : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::shared_ptr<const SafetensorsFile>> file =
        SafetensorsFile::Open(GetParam() + "/reference.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    reference_ = *file;
  }

  at::Tensor Get(const std::string& name) const {
    absl::StatusOr<at::Tensor> tensor = reference_->Get(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return tensor.ok() ? *tensor : at::zeros({1});
  }

  void ExpectClose(const std::string& name, const at::Tensor& found) {
    const at::Tensor expected = Get(name);
    ASSERT_EQ(found.sizes(), expected.sizes()) << name;
    ASSERT_EQ(found.scalar_type(), at::kFloat) << name;
    const double error = (found - expected).abs().max().item().toDouble();
    RecordProperty(name, std::to_string(error));
    std::printf("    %-12s max error %.2e of max %.2e\n", name.c_str(), error,
                expected.abs().max().item().toDouble());
    EXPECT_LT(error, kTolerance) << name;
  }

  std::shared_ptr<const SafetensorsFile> reference_;
};

TEST_P(ModelsParity, TextEncoder) {
  const auto text = TextEncoder::Load(GetParam() + "/text_encoder", {});
  ASSERT_TRUE(text.ok()) << text.status();
  ExpectClose("text.out", (*text)->Forward(Get("text.ids")));
}

TEST_P(ModelsParity, Vae) {
  const auto vae = Vae::Load(GetParam() + "/vae", {});
  ASSERT_TRUE(vae.ok()) << vae.status();
  const Vae::Posterior posterior = (*vae)->Encode(Get("vae.images"));
  ExpectClose("vae.mean", posterior.mean_BCHW);
  ExpectClose("vae.std", posterior.std_BCHW);
  ExpectClose("vae.decoded", (*vae)->Decode(Get("vae.latents")));
}

TEST_P(ModelsParity, UnetWithAndWithoutLora) {
  const auto unet = Unet::Load(GetParam() + "/unet", {});
  ASSERT_TRUE(unet.ok()) << unet.status();
  const at::Tensor latents = Get("unet.latents"), timesteps = Get("unet.timesteps"),
                   context = Get("unet.context");
  const at::Tensor base = (*unet)->Forward(latents, timesteps, context);
  ExpectClose("unet.out", base);
  EXPECT_FALSE(base.requires_grad());

  const auto lora =
      Lora::Load(GetParam() + "/lora/pytorch_lora_weights.safetensors", (*unet)->linears());
  ASSERT_TRUE(lora.ok()) << lora.status();
  const auto bound = (*unet)->BindLora(*lora);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(*bound, static_cast<int>(lora->modules().size()));
  const at::Tensor out = (*unet)->Forward(latents, timesteps, context);
  ExpectClose("unet.lora_out", out.detach());
  EXPECT_GT((out - base).abs().max().item().toDouble(), 100 * kTolerance)
      << "the LoRA has no effect";

  (out * Get("unet.probe")).sum().backward();
  const std::vector<std::string> names = lora->ParameterNames();
  const std::vector<at::Tensor> parameters = lora->Parameters();
  double worst = 0.0;
  for (size_t i = 0; i < names.size(); ++i) {
    const at::Tensor expected = Get("unet.grad." + names[i]);
    ASSERT_TRUE(parameters[i].grad().defined()) << names[i];
    const double scale = expected.norm().item().toDouble();
    const double error =
        (parameters[i].grad() - expected).norm().item().toDouble() / std::max(scale, 1e-12);
    worst = std::max(worst, error);
    EXPECT_LT(error, kGradientTolerance) << names[i];
  }
  std::printf("    gradients    max error %.2e of the tensor's norm, %zu tensors\n", worst,
              names.size());

  (*unet)->UnbindLora();
  EXPECT_TRUE(at::equal((*unet)->Forward(latents, timesteps, context), base));
}

std::string CaseName(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, ModelsParity, testing::ValuesIn(CaseFolders()), CaseName);

}  // namespace
}  // namespace imageddpo
