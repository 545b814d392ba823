#include "tests/gpu_check/speed.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/device/copies.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/pipeline.h"
#include "common/io/file.h"
#include "common/kernels/gpu/cuda_launcher.h"
#include "common/lora/lora.h"
#include "common/nn/peak_flops.h"
#include "rollout/sampler/sampler.h"
#include "tests/gpu_check/prediction.h"
#include "tests/gpu_check/trace.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/replay_update.h"
#include "trainer/loop/single_pass_update.h"

namespace imageddpo {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kSeed = 7;
constexpr double kMaxGradNorm = 1.0;
constexpr int64_t kRank = 4;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

/// Standard normal numbers as a rollout draws them.
at::Tensor Draw(StreamPurpose purpose, uint64_t epoch, int64_t sample, uint64_t step,
                at::IntArrayRef shape) {
  return KeyedNormal({.seed = kSeed,
                      .purpose = purpose,
                      .epoch = epoch,
                      .sample = static_cast<uint64_t>(sample),
                      .step = step},
                     shape);
}

std::string HashOf(const std::vector<at::Tensor>& tensors) {
  std::string bytes;
  for (const at::Tensor& tensor : ReadTogether(tensors)) {
    const at::Tensor values = tensor.contiguous();
    bytes.append(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
  }
  return Sha256Hex(bytes);
}

/// Clocks rise and libraries choose kernels during the first products: the best of several calls.
double MeasureProduct(at::Device device, at::ScalarType dtype) {
  const int calls = device.is_cpu() ? 1 : 10;
  double best = 0;
  for (int i = 0; i < calls; ++i) best = std::max(best, MeasurePeakFlops(device, dtype));
  return best;
}

class SpeedRun {
 public:
  SpeedRun(const SpeedOptions& options, Pipeline pipeline, Lora lora, const Schedule& schedule,
           const ModelCount& count)
      : options_(options),
        pipeline_(std::move(pipeline)),
        lora_(std::move(lora)),
        schedule_(schedule),
        policy_(*pipeline_.denoiser, *pipeline_.step_rule,
                {.num_steps = options.num_steps,
                 .guidance = {.scale = options.guidance_scale},
                 .first_timestep = schedule.timesteps.front()}),
        replay_(policy_, lora_.Parameters(), loss_),
        single_pass_(&sample_gradients_, loss_),
        optimizer_(lora_.ParameterNames(), lora_.Parameters(), {}),
        latent_{count.latent_channels, count.latent.height, count.latent.width} {
    result_.count = count;
    result_.num_steps = static_cast<int64_t>(schedule.timesteps.size());
    const std::vector<int64_t> embeds = {options.batch_size, count.context_tokens,
                                         count.context_width};
    conditioning_.negative_embeds_BLD =
        Draw(StreamPurpose::kInitNoise, 0, -1, 0, embeds).to(options.device);
    conditioning_.prompt_embeds_BLD =
        Draw(StreamPurpose::kInitNoise, 0, -1, 1, embeds).to(options.device);
    conditioning_.same_tokens_B.assign(static_cast<size_t>(options.batch_size), false);
  }

  absl::StatusOr<SpeedResult> Run() {
    Encode();
    result_.load_memory = GetDeviceMemory(options_.device);
    MeasurePasses();
    IMAGEDDPO_RETURN_IF_ERROR(RunEpoch());
    result_.first_epoch_seconds = result_.epoch_seconds.front();
    result_.epoch_seconds.clear();
    result_.sample_seconds.clear();
    result_.draw_seconds = 0;
    Synchronize(options_.device);
    ResetPeakMemory(options_.device);
    const auto start = SteadyClock::now();
    while (static_cast<int64_t>(result_.epoch_seconds.size()) < options_.min_epochs ||
           SecondsSince(start) < options_.seconds) {
      IMAGEDDPO_RETURN_IF_ERROR(RunEpoch());
    }
    result_.draw_seconds /= static_cast<double>(result_.epoch_seconds.size());
    result_.memory = GetDeviceMemory(options_.device);
    result_.model_flops = ModelFlops();
    return std::move(result_);
  }

  void set_product_flops(double flops) { result_.product_flops = flops; }

  RepeatResult Repeat(int64_t times, const std::string& trace_file) {
    Encode();
    RepeatResult repeated;
    for (int64_t i = 0; i < times; ++i) {
      std::vector<SampledTrajectories> trajectories = SampleEpoch();
      std::vector<at::Tensor> samples;
      for (const SampledTrajectories& sampled : trajectories) {
        samples.insert(samples.end(),
                       {sampled.latents_BKCHW, sampled.log_probs_BK, sampled.images_BCHW});
      }
      repeated.samples.push_back(HashOf(samples));
      repeated.gradients.push_back(HashOf({GradientOf(trajectories)}));
    }
    repeated.ratio_max_error = result_.ratio_max_error;
    if (!trace_file.empty()) {
      Trace(options_.device, trace_file, [this] { GradientOf(SampleEpoch()); });
    }
    return repeated;
  }

 private:
  int64_t micro_batches() const { return options_.samples_per_epoch / options_.batch_size; }
  bool single_pass() const { return options_.update == "single_pass"; }

  /// Each image by itself and once for all epochs, as a rollout does; then the encoder is freed.
  void Encode() {
    const auto start = SteadyClock::now();
    at::manual_seed(kSeed);  // Another process takes the same images.
    const int64_t side = options_.resolution;
    for (int64_t m = 0; m < micro_batches(); ++m) {
      std::vector<at::Tensor> means, deviations;
      for (int64_t i = 0; i < options_.batch_size; ++i) {
        const at::Tensor image_1CHW = at::rand({1, 3, side, side}, at::kFloat);
        const Vae::Posterior one = EncodeImages(*pipeline_.vae, image_1CHW, options_.device);
        means.push_back(one.mean_BCHW);
        deviations.push_back(one.std_BCHW);
      }
      posteriors_.push_back({at::cat(means), at::cat(deviations)});
    }
    Synchronize(options_.device);
    result_.encode_seconds = SecondsSince(start);
    pipeline_.vae->ReleaseEncoder();
  }

  /// The UNet alone on one micro-batch: the median of a few passes.
  void MeasurePasses() {
    const int64_t rows = options_.batch_size;
    const at::Tensor latents_BCHW = posteriors_.front().mean_BCHW;
    const at::Tensor timesteps_B =
        at::full({rows}, schedule_.timesteps.front(),
                 at::TensorOptions().dtype(at::kLong).device(options_.device));
    const auto median = [this](const std::function<void()>& pass) {
      std::vector<double> seconds;
      for (int i = 0; i < 6; ++i) {
        const auto start = SteadyClock::now();
        pass();
        Synchronize(options_.device);
        if (i > 0) seconds.push_back(SecondsSince(start));  // The first one warms up.
      }
      std::sort(seconds.begin(), seconds.end());
      return seconds[seconds.size() / 2];
    };
    const auto forward = [&] {
      return pipeline_.denoiser->Forward(latents_BCHW, timesteps_B,
                                         conditioning_.negative_embeds_BLD);
    };
    result_.forward_seconds = median([&] {
      const at::NoGradGuard no_grad;
      (void)forward();
    });
    result_.forward_backward_seconds = median([&] {
      const at::AutoGradMode with_graph(true);
      forward().sum().backward();
      for (const at::Tensor& parameter : lora_.Parameters())
        parameter.mutable_grad() = at::Tensor();
    });
  }

  /// One draw for each sample of a micro-batch.
  at::Tensor DrawBatch(int64_t micro_batch, StreamPurpose purpose, int64_t step) {
    const auto start = SteadyClock::now();
    std::vector<at::Tensor> noise;
    for (int64_t i = 0; i < options_.batch_size; ++i) {
      noise.push_back(Draw(purpose, epoch_, micro_batch * options_.batch_size + i,
                           static_cast<uint64_t>(step), latent_));
    }
    result_.draw_seconds += SecondsSince(start);
    return at::stack(noise);
  }

  SamplerInputs DrawInputs(int64_t micro_batch) {
    return {.posterior = posteriors_[static_cast<size_t>(micro_batch)],
            .encode_noise_BCHW = DrawBatch(micro_batch, StreamPurpose::kEncodeNoise, 0),
            .init_noise_BCHW = DrawBatch(micro_batch, StreamPurpose::kInitNoise, 0),
            .step_noise =
                [this, micro_batch](int64_t k) {
                  return DrawBatch(micro_batch, StreamPurpose::kStepNoise, k);
                },
            .conditioning = conditioning_};
  }

  /// Samples one micro-batch, with gradients where they are collected on the way.
  SampledTrajectories Sample(int64_t micro_batch) {
    const SamplerInputs inputs = DrawInputs(micro_batch);
    std::optional<LogProbGradients> gradients;
    if (single_pass()) {
      gradients.emplace(pipeline_.denoiser.get(), lora_, options_.batch_size, conditioning_,
                        policy_.options().guidance);
    }
    SampledTrajectories sampled =
        SampleTrajectories(policy_, *pipeline_.vae, schedule_, inputs, options_.device,
                           gradients ? &*gradients : nullptr);
    if (gradients) sample_gradients_.Put(micro_batch, gradients->Take());
    return sampled;
  }

  std::vector<SampledTrajectories> SampleEpoch() {
    std::vector<SampledTrajectories> trajectories;
    for (int64_t m = 0; m < micro_batches(); ++m) trajectories.push_back(Sample(m));
    return trajectories;
  }

  /// Of the epoch's update, not clipped.
  at::Tensor GradientOf(const std::vector<SampledTrajectories>& trajectories) {
    std::vector<float> signs;
    for (int64_t i = 0; i < options_.batch_size; ++i) signs.push_back(i % 2 == 0 ? 1.0F : -1.0F);
    const at::Tensor advantages_B = at::tensor(signs, at::kFloat);
    const double weight = 1.0 / static_cast<double>(micro_batches() * result_.num_steps);
    const at::AutoGradMode with_graph(true);
    std::vector<at::Tensor> numbers;  // Of the micro-batches, read once.
    for (int64_t m = 0; m < micro_batches(); ++m) {
      const SampledTrajectories& sampled = trajectories[static_cast<size_t>(m)];
      numbers.push_back(single_pass()
                            ? single_pass_.Accumulate(m, advantages_B, result_.num_steps, weight)
                            : replay_.Accumulate({.latents_BKCHW = sampled.latents_BKCHW,
                                                  .timesteps_BK = sampled.timesteps_BK,
                                                  .log_probs_BK = sampled.log_probs_BK,
                                                  .advantages_B = advantages_B,
                                                  .conditioning = conditioning_},
                                                 weight));
    }
    for (const at::Tensor& numbers_KN : ReadTogether(numbers)) {
      for (const StepStatistics& step : StatisticsOf(numbers_KN)) {
        result_.ratio_max_error = std::max(result_.ratio_max_error, step.ratio_max_error);
      }
    }
    return single_pass() ? single_pass_.TakeGradient() : replay_.TakeGradient();
  }

  absl::Status RunEpoch() {
    const auto start = SteadyClock::now();
    const std::vector<SampledTrajectories> trajectories = SampleEpoch();
    result_.sample_seconds.push_back(SecondsSince(start));  // Results are on the CPU by now.
    result_.gradient_norm =
        ClipAndStep(GradientOf(trajectories), kMaxGradNorm, lora_.Parameters(), &optimizer_);
    Synchronize(options_.device);
    result_.epoch_seconds.push_back(SecondsSince(start));
    ++epoch_;
    if (std::isfinite(result_.gradient_norm) && result_.gradient_norm > 0) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("the gradient's norm in epoch ", epoch_, " is ", result_.gradient_norm));
  }

  double ModelFlops() const {
    const PassCount& unet = result_.count.unet;
    const double forward = unet.flops + unet.lora_flops;
    const double update = forward + unet.backward_flops;
    const auto rows = static_cast<double>(
        micro_batches() * PassesOf(conditioning_.same_tokens_B, policy_.options().guidance));
    const double row = single_pass() ? update : forward + update;
    return static_cast<double>(result_.num_steps) * rows * row +
           static_cast<double>(options_.samples_per_epoch) * result_.count.decoder.flops;
  }

  const SpeedOptions& options_;
  Pipeline pipeline_;
  Lora lora_;
  Schedule schedule_;
  Policy policy_;
  PpoLoss loss_;
  ReplayUpdate replay_;
  SampleGradients sample_gradients_;
  SinglePassUpdate single_pass_;
  AdamW optimizer_;
  std::vector<int64_t> latent_;
  Conditioning conditioning_;
  std::vector<Vae::Posterior> posteriors_;
  uint64_t epoch_ = 0;
  SpeedResult result_;
};

absl::Status CheckSpeedOptions(const SpeedOptions& options) {
  if (options.precision != "fp32" && options.precision != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision is ", options.precision, ", it must be fp32 or bf16"));
  }
  if (options.update != "single_pass" && options.update != "replay") {
    return absl::InvalidArgumentError(
        absl::StrCat("--update is ", options.update, ", it must be single_pass or replay"));
  }
  if (options.batch_size < 1 || options.samples_per_epoch < 1 ||
      options.samples_per_epoch % options.batch_size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--samples is ", options.samples_per_epoch,
                                                   ", it must be a multiple of --batch-size, ",
                                                   options.batch_size));
  }
  if (options.min_epochs < 1) return absl::InvalidArgumentError("--min-epochs must be at least 1");
  return absl::OkStatus();
}

at::ScalarType DtypeOf(const SpeedOptions& options) {
  return options.precision == "bf16" ? at::kBFloat16 : at::kFloat;
}

absl::StatusOr<std::unique_ptr<SpeedRun>> MakeRun(const SpeedOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const ModelCount count,
      CountModel(options.model, {options.resolution, options.resolution}, {.rank = kRank}));
  ModelOptions model = {.device = options.device, .dtype = DtypeOf(options)};
  if (options.fused_kernels) {
    IMAGEDDPO_ASSIGN_OR_RETURN(model.fused, FusedKernelsOn(options.device));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(Pipeline pipeline,
                             Pipeline::Load(options.model, model, {.vae = true, .text = false}));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Schedule schedule,
      pipeline.step_rule->MakeSchedule(options.num_steps, options.noise_strength));
  uint64_t tensor = 0;
  IMAGEDDPO_ASSIGN_OR_RETURN(
      Lora lora, Lora::Create(
                     pipeline.denoiser->linears(), {.rank = kRank, .alpha = kRank},
                     [&tensor](const std::string&, at::IntArrayRef shape) {
                       return KeyedNormal(
                           {.seed = kSeed, .purpose = StreamPurpose::kLoraInit, .sample = tensor++},
                           shape);
                     },
                     options.device));
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.denoiser->BindLora(lora).status());
  return std::make_unique<SpeedRun>(options, std::move(pipeline), std::move(lora), schedule, count);
}

}  // namespace

absl::StatusOr<SpeedResult> MeasureSpeed(const SpeedOptions& options) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckSpeedOptions(options));
  const double product_flops = MeasureProduct(options.device, DtypeOf(options));
  ResetPeakMemory(options.device);  // The product's matrices are not part of the job's memory.
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<SpeedRun> run, MakeRun(options));
  run->set_product_flops(product_flops);
  IMAGEDDPO_ASSIGN_OR_RETURN(SpeedResult result, run->Run());
  result.predicted_bytes = PredictedBytes(options, result.count, kRank).value_or(0);
  return result;
}

absl::StatusOr<RepeatResult> RepeatEpoch(const SpeedOptions& options, int64_t times,
                                         const std::string& trace_file) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckSpeedOptions(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<SpeedRun> run, MakeRun(options));
  return run->Repeat(times, trace_file);
}

}  // namespace imageddpo
