/// What the parts of a step cost on the model of IMAGEDDPO_BENCH_MODEL (a diffusers folder;
/// default: the demo's), at IMAGEDDPO_BENCH_SIZE latent pixels (default: the model's), in
/// IMAGEDDPO_BENCH_PRECISION (fp32 or bf16), with IMAGEDDPO_BENCH_RECOMPUTE=1 computing activations
/// again (device.gradient_checkpointing). The argument is the batch. On CPUs, with one intra-op
/// thread per core.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/base/memory.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/pipeline.h"
#include "common/kernels/winograd.h"
#include "common/lora/lora.h"
#include "common/model_config/unet_config.h"
#include "common/nn/layers.h"

namespace imageddpo {
namespace {

constexpr int64_t kNumSteps = 50;
constexpr double kEta = 1.0;

const char* Environment(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

std::string ModelDir() { return Environment("IMAGEDDPO_BENCH_MODEL", "deploy/demo/tiny-sd"); }

/// The model and one batch of inputs for it.
struct Fixture {
  explicit Fixture(int64_t batch) {
    const bool bf16 = std::string(Environment("IMAGEDDPO_BENCH_PRECISION", "fp32")) == "bf16";
    absl::StatusOr<Pipeline> loaded = Pipeline::Load(
        ModelDir(),
        {.dtype = bf16 ? at::kBFloat16 : at::kFloat,
         .recompute = std::string(Environment("IMAGEDDPO_BENCH_RECOMPUTE", "")) == "1"},
        {.text = false});
    if (!loaded.ok()) {
      throw std::runtime_error(loaded.status().ToString());
    }
    pipeline.emplace(*std::move(loaded));
    absl::StatusOr<UnetConfig> read = UnetConfig::Load(ModelDir() + "/unet/config.json");
    if (!read.ok()) throw std::runtime_error(read.status().ToString());
    const UnetConfig& config = *read;
    const int64_t given = std::atoll(Environment("IMAGEDDPO_BENCH_SIZE", "0"));
    const int64_t size = given > 0 ? given : config.sample_size;
    latents_BCHW = at::randn({batch, config.in_channels, size, size});
    noise_BCHW = at::randn(latents_BCHW.sizes());
    context_BLD = at::randn({batch, 77, config.cross_attention_dim});
    timesteps_B = at::full({batch}, 501, at::kLong);
  }

  at::Tensor Predict() const {
    return pipeline->denoiser->Forward(latents_BCHW, timesteps_B, context_BLD);
  }

  std::optional<Pipeline> pipeline;
  at::Tensor latents_BCHW, noise_BCHW, context_BLD, timesteps_B;
};

// NOLINTBEGIN(readability-identifier-naming): the names that Google Benchmark shows.

/// One UNet pass without gradients or a LoRA: what an evaluation does for each step, with it
/// folded.
void BM_UnetForward(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  const at::NoGradGuard no_grad;
  benchmark::DoNotOptimize(fixture.Predict());  // The first pass reads the weights from disk.
  for (auto _ : state) {
    benchmark::DoNotOptimize(fixture.Predict());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// A LoRA bound to the fixture's UNet.
std::optional<Lora> BindLora(const Fixture& fixture, benchmark::State& state) {
  Denoiser& denoiser = *fixture.pipeline->denoiser;
  const auto normal = [](const std::string& /*path*/, at::IntArrayRef shape) {
    return at::randn(shape);
  };
  absl::StatusOr<Lora> lora = Lora::Create(denoiser.linears(), LoraConfig(), normal);
  if (lora.ok() && denoiser.BindLora(*lora).ok()) return *std::move(lora);
  state.SkipWithError("the LoRA does not fit the model");
  return std::nullopt;
}

/// Without gradients, under a LoRA: what a rollout does for each step.
void BM_UnetForwardLora(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  const std::optional<Lora> lora = BindLora(fixture, state);
  if (!lora) return;
  const at::NoGradGuard no_grad;
  benchmark::DoNotOptimize(fixture.Predict());  // The first pass reads the weights from disk.
  for (auto _ : state) {
    benchmark::DoNotOptimize(fixture.Predict());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// Forward and backward to the LoRA's gradients: what a replay update does for each step.
void BM_UnetForwardBackward(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  const std::optional<Lora> lora = BindLora(fixture, state);
  if (!lora) return;
  fixture.Predict().sum().backward();  // Warms up, as above.
  for (auto _ : state) {
    fixture.Predict().sum().backward();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// The same with gradients apart for each row: what a single pass does for each step.
void BM_UnetForwardBackwardRows(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  const std::optional<Lora> lora = BindLora(fixture, state);
  if (!lora) return;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : lora->Parameters()) {
    gradients.push_back(at::zeros({state.range(0), parameter.size(0), parameter.size(1)}));
  }
  fixture.pipeline->denoiser->CaptureRowGradients(*lora, gradients);
  fixture.Predict().sum().backward();  // Warms up, as above.
  for (auto _ : state) {
    fixture.Predict().sum().backward();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// Latents to images.
void BM_VaeDecode(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  const at::NoGradGuard no_grad;
  const auto decode = [&] { return fixture.pipeline->vae->Decode(fixture.latents_BCHW); };
  benchmark::DoNotOptimize(decode());  // Warms up, as above.
  for (auto _ : state) {
    benchmark::DoNotOptimize(decode());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// The scheduler's step with its log-probability.
void BM_DdimStep(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(fixture.pipeline->step_rule->Step(
        fixture.noise_BCHW, fixture.timesteps_B, fixture.latents_BCHW, kNumSteps, kEta,
        fixture.noise_BCHW, at::Tensor()));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// What a single pass does for each step besides the UNet's passes: noise, the scheduler's step
/// with its log-probability, and the gradient of that in the UNet's output.
void BM_StepWithoutUnet(benchmark::State& state) {
  const Fixture fixture(state.range(0));
  StreamKey key = {.seed = 1, .purpose = StreamPurpose::kStepNoise};
  for (auto _ : state) {
    std::vector<at::Tensor> noise;
    for (key.sample = 0; key.sample < static_cast<uint64_t>(state.range(0)); ++key.sample) {
      noise.push_back(KeyedNormal(key, fixture.latents_BCHW.sizes().slice(1).vec()));
    }
    ++key.step;
    const at::Tensor prediction_BCHW = fixture.noise_BCHW.detach().requires_grad_(true);
    const StepResult step = fixture.pipeline->step_rule->Step(
        prediction_BCHW, at::full({state.range(0)}, 501, at::kLong), fixture.latents_BCHW,
        kNumSteps, kEta, at::stack(noise), at::Tensor());
    if (step.stochastic_B.any().item<bool>()) step.log_prob_B.sum().backward();
    at::Tensor gradient_BCHW = prediction_BCHW.grad();
    benchmark::DoNotOptimize(gradient_BCHW);
  }
}

/// A plain matrix product: what the machine can do.
void BM_MatrixProduct(benchmark::State& state, at::ScalarType dtype) {
  constexpr int64_t kSize = 2048;
  const at::Tensor left = at::randn({kSize, kSize}).to(dtype);
  const at::Tensor right = at::randn({kSize, kSize}).to(dtype);
  for (auto _ : state) {
    benchmark::DoNotOptimize(at::mm(left, right));
  }
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  state.counters["FLOPS"] = benchmark::Counter(
      kFlops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::OneK::kIs1000);
}

/// A convolution of SD 1.5 with 3×3 filters, as Conv2d takes it or, with the last argument, in
/// WinogradConvolution()'s tiles of that side (0: as libtorch takes it).
void BM_Convolution(benchmark::State& state, at::ScalarType dtype) {
  const int64_t in = state.range(0), out = state.range(1), side = state.range(2),
                tile = state.range(4);
  const Conv2d conv = {.weight_OIHW = at::randn({out, in, 3, 3}).to(dtype),
                       .bias_O = at::randn({out}).to(dtype),
                       .stride = 1,
                       .padding = 1};
  const at::Tensor x = at::randn({state.range(3), in, side, side}).to(dtype);
  const at::NoGradGuard no_grad;
  for (auto _ : state) {
    benchmark::DoNotOptimize(tile < 0 ? conv.Forward(x)
                             : tile == 0
                                 ? at::conv2d(x, conv.weight_OIHW, conv.bias_O, 1, 1)
                                 : WinogradConvolution(x, conv.weight_OIHW, conv.bias_O, tile));
  }
}

void Convolutions(benchmark::internal::Benchmark* benchmark) {
  for (const auto& [in, out, side, rows] : {std::array<int64_t, 4>{320, 320, 32, 2},
                                            {960, 320, 32, 2},
                                            {640, 640, 16, 2},
                                            {1920, 640, 16, 2},
                                            {1280, 1280, 8, 2},
                                            {2560, 1280, 8, 2},
                                            {1280, 1280, 4, 2},
                                            {1280, 1280, 16, 1},
                                            {64, 64, 32, 8},
                                            {64, 64, 32, 1},
                                            {128, 128, 32, 2},
                                            {512, 512, 64, 1},
                                            {256, 256, 128, 1},
                                            {128, 128, 256, 1}}) {
    for (const int64_t tile : {-1, 0, 2, 4}) benchmark->Args({in, out, side, rows, tile});
  }
}

/// A linear layer of some tokens, as Linear takes it (0), libtorch's (1), or backward, that of
/// Linear (2) and libtorch's (3).
void BM_Linear(benchmark::State& state, at::ScalarType dtype) {
  const int64_t tokens = state.range(0), in = state.range(1), out = state.range(2);
  const bool ours = state.range(3) % 2 == 0, backward = state.range(3) >= 2;
  const Linear linear = {.weight_OI = at::randn({out, in}).to(dtype),
                         .bias_O = at::randn({out}).to(dtype),
                         .lora = std::make_shared<LoraSlot>()};
  const at::Tensor x = at::randn({tokens, in}).to(dtype).requires_grad_(backward);
  const at::Tensor y_grad = at::randn({tokens, out}).to(dtype);
  const auto forward = [&] {
    return ours ? linear.Forward(x) : at::linear(x, linear.weight_OI, linear.bias_O);
  };
  const at::Tensor y = forward();
  const at::AutoGradMode grad_mode(backward);
  for (auto _ : state) {
    if (backward) {
      benchmark::DoNotOptimize(torch::autograd::grad({y}, {x}, {y_grad}, /*retain_graph=*/true));
    } else {
      benchmark::DoNotOptimize(forward());
    }
  }
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(tokens * in * out * state.iterations()),
                         benchmark::Counter::kIsRate);
}

void Linears(benchmark::internal::Benchmark* benchmark) {
  for (const auto& [tokens, in, out] : {std::array<int64_t, 3>{2048, 320, 320},
                                        {2048, 320, 2560},
                                        {2048, 1280, 320},
                                        {512, 640, 640},
                                        {512, 640, 5120},
                                        {512, 2560, 640},
                                        {128, 1280, 1280},
                                        {128, 1280, 10240},
                                        {128, 5120, 1280},
                                        {32, 1280, 1280},
                                        {154, 768, 320},
                                        {1024, 64, 64},
                                        {2, 1280, 1280}}) {
    for (const int64_t way : {0, 1, 2, 3}) benchmark->Args({tokens, in, out, way});
  }
}

BENCHMARK_CAPTURE(BM_Linear, fp32, at::kFloat)
    ->Apply(Linears)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Linear, bf16, at::kBFloat16)
    ->Apply(Linears)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Convolution, fp32, at::kFloat)
    ->Apply(Convolutions)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Convolution, bf16, at::kBFloat16)
    ->Apply(Convolutions)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_MatrixProduct, fp32, at::kFloat)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(BM_MatrixProduct, bf16, at::kBFloat16)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(BM_UnetForward)
    ->Arg(1)
    ->Arg(2)
    ->Arg(8)
    ->Arg(32)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(BM_UnetForwardLora)->Arg(1)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_UnetForwardBackward)
    ->Arg(1)
    ->Arg(2)
    ->Arg(8)
    ->Arg(32)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(BM_UnetForwardBackwardRows)
    ->Arg(1)
    ->Arg(2)
    ->Arg(8)
    ->Arg(32)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(BM_VaeDecode)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_DdimStep)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_StepWithoutUnet)->Arg(2)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();

// NOLINTEND(readability-identifier-naming)

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  imageddpo::KeepFreeMemory();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
