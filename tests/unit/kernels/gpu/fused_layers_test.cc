// Models with the GPUs' kernels, run on the host, against the same models without.
#include "common/nn/fused_layers.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/safetensors.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "common/sd/vae.h"
#include "tests/testing/gpu/emulated_gpu.h"

namespace imageddpo {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

double LayerError(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  const at::Tensor exact = expected.to(at::kDouble);
  return ((found.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

constexpr double kForwardError = 1e-5, kGradientError = 1e-4;

/// A UNet of tests/data/parity/models with its LoRA, and the inputs that are stored with it.
struct SmallUnet {
  SmallUnet(const std::string& model, const ModelOptions& options) {
    const std::string folder = "tests/data/parity/models/" + model;
    unet = Must(Unet::Load(folder + "/unet", options));
    lora.emplace(
        Must(Lora::Load(folder + "/lora/pytorch_lora_weights.safetensors", unet->linears())));
    Must(unet->BindLora(*lora));
    inputs = Must(SafetensorsFile::Open(folder + "/reference.safetensors"));
  }

  at::Tensor Input(const std::string& name) const { return Must(inputs->Get("unet." + name)); }
  at::Tensor Forward() const {
    return unet->Forward(Input("latents"), Input("timesteps"), Input("context"));
  }
  /// Of all parameters, one behind the other.
  at::Tensor Gradients() const {
    (Forward() * Input("probe")).sum().backward();
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : lora->Parameters()) {
      gradients.push_back(parameter.grad().flatten());
    }
    return at::cat(gradients);
  }

  std::unique_ptr<Unet> unet;
  std::optional<Lora> lora;
  std::shared_ptr<const SafetensorsFile> inputs;
};

class FusedUnetTest : public ::testing::TestWithParam<std::string> {};
class FusedUnetBits : public FusedUnetTest {};

TEST_P(FusedUnetTest, PredictsTheSameWithTheSameGradients) {
  const SmallUnet composed(GetParam(), {}), fused(GetParam(), {.fused = EmulatedKernels()});
  EXPECT_LE(LayerError(fused.Forward(), composed.Forward()), kForwardError);
  EXPECT_TRUE(fused.Forward().is_contiguous());
  EXPECT_LE(LayerError(fused.Gradients(), composed.Gradients()), kGradientError);
}

// What a rollout samples is what a replay computes: else the first ratio would not be 1.
TEST_P(FusedUnetBits, HasTheSameBitsWithAGraphAndWithout) {
  const SmallUnet fused(GetParam(), {.fused = EmulatedKernels()});
  const at::Tensor with_graph = fused.Forward();
  EXPECT_TRUE(with_graph.requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(fused.Forward(), with_graph));
}

TEST_P(FusedUnetBits, GradientCheckpointingKeepsTheBits) {
  const SmallUnet kept(GetParam(), {.fused = EmulatedKernels()}),
      recomputed(GetParam(), {.recompute = true, .fused = EmulatedKernels()});
  EXPECT_TRUE(at::equal(recomputed.Forward(), kept.Forward()));
  EXPECT_TRUE(at::equal(recomputed.Gradients(), kept.Gradients()));
}

/// For each sample of the batch apart, as a single pass collects them.
at::Tensor RowGradients(const SmallUnet& model) {
  const int64_t batch = model.Input("latents").size(0);
  std::vector<at::Tensor> gradients, flat;
  for (const at::Tensor& parameter : model.lora->Parameters()) {
    std::vector<int64_t> shape = parameter.sizes().vec();
    shape.insert(shape.begin(), batch);
    gradients.push_back(at::zeros(shape));
  }
  model.unet->CaptureRowGradients(*model.lora, gradients);
  (model.Forward() * model.Input("probe")).sum().backward();
  model.unet->ReleaseRowGradients();
  for (const at::Tensor& gradient : gradients) flat.push_back(gradient.flatten(1));
  return at::cat(flat, 1);
}

TEST_P(FusedUnetBits, GradientsOfSingleSamplesAreTheSame) {
  const SmallUnet composed(GetParam(), {}), fused(GetParam(), {.fused = EmulatedKernels()});
  EXPECT_LE(LayerError(RowGradients(fused), RowGradients(composed)), kGradientError);
}

INSTANTIATE_TEST_SUITE_P(Models, FusedUnetBits, ::testing::Values("sd1"));
INSTANTIATE_TEST_SUITE_P(Models, FusedUnetTest, ::testing::Values("sd1", "sd2", "unusual"),
                         [](const auto& info) { return info.param; });

TEST(FusedUnet, UsesEveryKernelOfItsType) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const std::string suffix = dtype == at::kFloat ? "_f32" : "_bf16";
    const auto counts = std::make_shared<LaunchCounts>();
    const SmallUnet fused("sd1", {.dtype = dtype, .fused = EmulatedKernels(counts)});
    const SmallUnet composed("sd1", {.dtype = dtype});
    const at::NoGradGuard no_grad;
    const double bound = dtype == at::kFloat ? kForwardError : 5e-2;
    EXPECT_LE(LayerError(fused.Forward(), composed.Forward()), bound) << suffix;
    for (const char* kernel : {"geglu", "group_moments", "group_apply", "lora_down"}) {
      EXPECT_GT((*counts)[kernel + suffix], 0) << kernel << suffix;
    }
    EXPECT_EQ(counts->size(), 4U) << suffix;
  }
}

// Without, it would be read three times.
TEST(FusedUnet, QueriesKeysAndValuesShareOneDownProjection) {
  const auto counts = std::make_shared<LaunchCounts>();
  const auto kernels = EmulatedKernels(counts);
  const auto layer = [&](int64_t rank) {
    Linear linear;
    linear.weight_OI = at::randn({6, 8});
    linear.lora = std::make_shared<LoraSlot>();
    linear.fused = kernels;
    if (rank > 0) {
      linear.lora->down_RI = at::randn({rank, 8});
      linear.lora->up_OR = at::randn({6, rank});
      linear.lora->scale = 0.5;
    }
    return linear;
  };
  const Linear q = layer(2), k = layer(0), v = layer(3);
  const at::Tensor x = at::randn({2, 5, 8});
  const std::vector<at::Tensor> together = ForwardTogether({&q, &k, &v}, x);
  EXPECT_EQ((*counts)["lora_down_f32"], 1);
  ASSERT_EQ(together.size(), 3U);
  const std::vector<const Linear*> layers = {&q, &k, &v};
  for (size_t i = 0; i < layers.size(); ++i) {
    const LoraSlot& slot = *layers[i]->lora;
    at::Tensor weight = layers[i]->weight_OI;
    if (slot.down_RI.defined()) weight = weight + 0.5 * at::mm(slot.up_OR, slot.down_RI);
    EXPECT_LE(LayerError(together[i], at::linear(x, weight)), kForwardError) << i;
  }
}

TEST(FusedVae, EncodesAndDecodesTheSame) {
  for (const std::string model : {"sd1", "sd2"}) {
    const std::string folder = "tests/data/parity/models/" + model;
    const auto inputs = Must(SafetensorsFile::Open(folder + "/reference.safetensors"));
    const auto composed = Must(Vae::Load(folder + "/vae", {}));
    const auto fused = Must(Vae::Load(folder + "/vae", {.fused = EmulatedKernels()}));
    const at::Tensor images = Must(inputs->Get("vae.images"));
    const at::Tensor latents = Must(inputs->Get("vae.latents"));
    const at::NoGradGuard no_grad;
    EXPECT_LE(LayerError(fused->Encode(images).mean_BCHW, composed->Encode(images).mean_BCHW),
              kForwardError)
        << model;
    EXPECT_LE(LayerError(fused->Decode(latents), composed->Decode(latents)), kForwardError)
        << model;
    EXPECT_TRUE(fused->Decode(latents).is_contiguous());
  }
}

}  // namespace
}  // namespace imageddpo
