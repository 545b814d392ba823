#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/base/host.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/config/job_plan.h"
#include "common/device/copies.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/pipeline.h"
#include "common/io/file.h"
#include "common/io/image_tensor.h"
#include "common/lora/lora.h"
#include "common/model_config/model_count.h"
#include "common/plan/costs.h"
#include "deploy/trace/trace.h"
#include "rollout/reward/make_reward.h"
#include "rollout/sampler/sampler.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/replay_update.h"

namespace imageddpo {
namespace {

constexpr int kLeastRepetitions = 3;

/// The median seconds of `work`, which gives back a tensor of its result, over at least
/// `min_seconds`.
double Measure(double min_seconds, const std::function<at::Tensor()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto once = [&work] {
    const auto start = Clock::now();
    const at::Tensor result = work();
    if (!result.device().is_cpu()) result.reshape({-1})[0].cpu();  // Waits for the device.
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  once();  // Allocates, and chooses kernels.
  std::vector<double> seconds;
  double total = 0;
  while (total < min_seconds || seconds.size() < kLeastRepetitions) {
    seconds.push_back(once());
    total += seconds.back();
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

absl::StatusOr<ResolvedJob> ReadJob(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(v1::JobSpec spec, ParseJobYaml(text, path));
  if (spec.device().num_threads() == 0) {
    spec.mutable_device()->set_num_threads(AvailableProcessors());
  }
  absl::StatusOr<ResolvedJob> job = ResolvedJob::Make(std::move(spec));
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(job.status(), path));
  return job;
}

/// A batch of inputs as a rollout has them.
struct Batch {
  int64_t size = 0;
  SamplerInputs inputs;
  at::Tensor latents_BCHW, images_BCHW;
  ReplayBatch replay;
};

/// Runs each stage with a job's model and settings.
class StageTimer {
 public:
  StageTimer(const TraceCostsOptions& options, const ResolvedJob& job, Pipeline pipeline, Lora lora,
             const ModelCount& count, const Schedule& schedule, at::Device device)
      : options_(options),
        job_(job),
        pipeline_(std::move(pipeline)),
        lora_(std::move(lora)),
        count_(count),
        device_(device),
        schedule_(schedule),
        policy_(*pipeline_.denoiser, *pipeline_.step_rule,
                MakePolicyOptions(job_.spec().sample(), schedule)),
        replay_(policy_, lora_.Parameters(), loss_),
        optimizer_(lora_.ParameterNames(), lora_.Parameters(),
                   {.moments_8bit = job_.optimizer() == OptimizerKind::kAdamW8bit,
                    .min_8bit_size = job_.spec().train().min_8bit_size()}) {
    const auto steps = static_cast<int64_t>(schedule_.timesteps.size());
    schedule_.timesteps.resize(
        static_cast<size_t>(std::clamp<int64_t>(options.most_steps, 1, steps)));
  }

  absl::Status Run(const std::vector<int64_t>& batch_sizes, Costs* costs);

 private:
  double Time(const std::function<at::Tensor()>& work) const {
    return Measure(options_.min_seconds, work);
  }
  Batch MakeBatch(int64_t size) const;
  double DrawSeconds(const Batch& batch) const;
  double StepSeconds(const Batch& batch, bool with_gradients);
  absl::StatusOr<double> RewardSeconds(const Batch& batch);
  void MeasureParameters(Costs* costs);

  const TraceCostsOptions& options_;
  ResolvedJob job_;
  Pipeline pipeline_;
  Lora lora_;
  ModelCount count_;
  at::Device device_;
  Schedule schedule_;  ///< Cut to the steps that are measured.
  Policy policy_;
  PpoLoss loss_;
  ReplayUpdate replay_;
  AdamW optimizer_;
};

Batch StageTimer::MakeBatch(int64_t size) const {
  const auto on_device = at::TensorOptions().dtype(at::kFloat).device(device_);
  const int64_t c = count_.latent_channels;
  const auto [width, height] = count_.latent;
  const auto num_steps = static_cast<int64_t>(schedule_.timesteps.size());
  Batch batch{.size = size};
  batch.latents_BCHW = at::randn({size, c, height, width}, on_device);
  batch.images_BCHW = at::full({size, 3, count_.image.height, count_.image.width}, 0.5, at::kFloat);
  Conditioning& conditioning = batch.inputs.conditioning;
  conditioning.negative_embeds_BLD =
      at::randn({size, count_.context_tokens, count_.context_width}, on_device);
  conditioning.prompt_embeds_BLD = conditioning.negative_embeds_BLD + 1.0;
  conditioning.same_tokens_B.assign(static_cast<size_t>(size), false);
  batch.inputs.step_noise =
      [noise_KBCHW = at::randn({num_steps, size, c, height, width}, on_device)](int64_t k) {
        return noise_KBCHW.select(0, k);
      };
  batch.replay.latents_BKCHW = at::randn({size, num_steps + 1, c, height, width}, at::kFloat);
  batch.replay.timesteps_BK = at::zeros({size, num_steps}, at::kLong);
  for (int64_t k = 0; k < num_steps; ++k) {
    batch.replay.timesteps_BK.select(1, k).fill_(schedule_.timesteps[static_cast<size_t>(k)]);
  }
  batch.replay.log_probs_BK = at::zeros({size, num_steps}, at::kFloat);
  batch.replay.advantages_B = at::full({size}, 1.0, at::kFloat);
  batch.replay.conditioning = conditioning;
  return batch;
}

/// All noise of a micro-batch, drawn as a rollout does, and its images from 8 bits.
double StageTimer::DrawSeconds(const Batch& batch) const {
  const std::vector<int64_t> latent = {count_.latent_channels, count_.latent.height,
                                       count_.latent.width};
  const int64_t draws = job_.executed_steps() + 2;
  const Image image = TensorToImage(batch.images_BCHW[0]);
  return Time([&] {
    std::vector<at::Tensor> images, noise;
    for (int64_t i = 0; i < batch.size; ++i) {
      images.push_back(ImageToTensor(image));
      std::vector<at::Tensor> steps;
      for (int64_t k = 0; k < draws; ++k) {
        steps.push_back(KeyedNormal({.seed = job_.spec().seed(),
                                     .purpose = StreamPurpose::kStepNoise,
                                     .sample = static_cast<uint64_t>(i),
                                     .step = static_cast<uint64_t>(k)},
                                    latent));
      }
      noise.push_back(at::stack(steps));
    }
    const at::Tensor images_BCHW = MoveTo(at::stack(images), device_);
    return MoveTo(at::stack(noise), device_);
  });
}

/// Seconds of one step of the policy, without gradients or with those of a single pass.
double StageTimer::StepSeconds(const Batch& batch, bool with_gradients) {
  const double seconds = Time([&] {
    const at::AutoGradMode with_graph(with_gradients);
    std::optional<LogProbGradients> gradients;
    if (with_gradients) {
      gradients.emplace(pipeline_.denoiser.get(), lora_, batch.size, batch.inputs.conditioning,
                        policy_.options().guidance);
    }
    StepConditioning conditioning = policy_.Prepare(batch.inputs.conditioning);
    at::Tensor latents_BCHW = batch.latents_BCHW;
    for (size_t k = 0; k < schedule_.timesteps.size(); ++k) {
      const auto step =
          policy_.Sample(latents_BCHW, at::full({batch.size}, schedule_.timesteps[k], at::kLong),
                         conditioning, batch.inputs.step_noise(static_cast<int64_t>(k)));
      if (gradients) gradients->Add(step);
      latents_BCHW = step.prev_sample_BCHW.detach();
    }
    conditioning.text.Backward();
    return gradients ? gradients->Take() : latents_BCHW;
  });
  return seconds / static_cast<double>(schedule_.timesteps.size());
}

absl::StatusOr<double> StageTimer::RewardSeconds(const Batch& batch) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<Reward> reward, MakeJobReward(job_, device_));
  const auto size = static_cast<size_t>(batch.size);
  auto grey = std::make_shared<RewardBatch>();
  grey->generated_BCHW = grey->inputs_BCHW = grey->targets_BCHW = batch.images_BCHW;
  grey->kl_to_base_B = at::zeros({batch.size}, at::kDouble);
  grey->prompts.resize(size);
  grey->examples.resize(size, {.id = "grey", .label = 0});
  absl::Status failed;
  const double seconds = Time([&] {
    const absl::StatusOr<RewardOutput> scored = Score(reward.get(), grey);
    failed.Update(scored.status());
    if (!scored.ok()) return at::zeros({1});
    for (const absl::StatusOr<double>& value : scored->values_B) failed.Update(value.status());
    return at::zeros({1});
  });
  if (!failed.ok()) return failed;
  return seconds;
}

/// The stages whose work is the LoRA's parameters.
void StageTimer::MeasureParameters(Costs* costs) {
  const auto parameters = static_cast<double>(lora_.num_parameters());
  at::Tensor flat_P = lora_.Flatten();
  const at::Tensor gradient_P = at::full({flat_P.numel()}, 1e-3, flat_P.options());
  costs->bind = CostCurve({{parameters, Time([&] {
                              lora_.Unflatten(flat_P);
                              pipeline_.denoiser->BindLora(lora_).IgnoreError();
                              const std::string hash = lora_.Hash();
                              return lora_.Flatten();
                            })}});
  costs->optimizer =
      CostCurve({{parameters, Time([&] {
                    ClipAndStep(gradient_P.clone(), job_.spec().train().max_grad_norm(),
                                lora_.Parameters(), &optimizer_);
                    return flat_P;
                  })}});
  const at::Tensor row_P = at::zeros({flat_P.numel()}, at::kFloat);
  const at::Tensor other_P = at::zeros({flat_P.numel()}, at::kFloat);
  costs->copy = CostCurve({{4 * parameters, Time([&] { return row_P.add_(other_P, 0.5); })}});
  lora_.Unflatten(flat_P);
}

absl::Status StageTimer::Run(const std::vector<int64_t>& batch_sizes, Costs* costs) {
  const at::NoGradGuard no_grad;
  const Batch one = MakeBatch(1);
  costs->encode = CostCurve(
      {{count_.encoder.flops,
        Time([&] { return EncodeImages(*pipeline_.vae, one.images_BCHW, device_).mean_BCHW; })}});
  const at::Tensor ids_BL =
      at::zeros({1, count_.context_tokens}, at::TensorOptions().dtype(at::kLong).device(device_));
  costs->text = CostCurve(
      {{count_.text.flops, Time([&] { return pipeline_.text_encoder->Forward(ids_BL); })}});
  MeasureParameters(costs);

  std::vector<CostPoint> sample, gradient, replay, decode, draw, reward;
  for (const int64_t size : batch_sizes) {
    const Batch batch = MakeBatch(size);
    const auto images = static_cast<double>(size);
    const auto rows = static_cast<double>(
        PassesOf(batch.inputs.conditioning.same_tokens_B, policy_.options().guidance));
    const double step_work = rows * count_.unet.flops;
    const auto num_steps = static_cast<double>(schedule_.timesteps.size());
    sample.push_back({step_work, StepSeconds(batch, false)});
    gradient.push_back({step_work, StepSeconds(batch, true)});
    replay.push_back({step_work, Time([&] {
                                   const at::AutoGradMode with_graph(true);
                                   StatisticsOf(replay_.Accumulate(batch.replay, 1.0));
                                   return replay_.TakeGradient();
                                 }) / num_steps});
    decode.push_back({images * count_.decoder.flops, Time([&] {
                        const at::Tensor decoded = pipeline_.vae->Decode(batch.latents_BCHW);
                        return (decoded / 2 + 0.5).clamp(0, 1).to(at::kCPU);
                      })});
    draw.push_back(
        {images * static_cast<double>(job_.executed_steps() + 2) * count_.latent_values(),
         DrawSeconds(batch)});
    IMAGEDDPO_ASSIGN_OR_RETURN(const double reward_seconds, RewardSeconds(batch));
    reward.push_back({images * count_.image_values(), reward_seconds});
  }
  costs->sample_step = CostCurve(sample);
  costs->gradient_step = CostCurve(gradient);
  costs->replay_step = CostCurve(replay);
  costs->decode = CostCurve(decode);
  costs->draw = CostCurve(draw);
  costs->reward = CostCurve(reward);
  return absl::OkStatus();
}

absl::Status CheckCostsOptions(const TraceCostsOptions& options) {
  for (const int64_t size : options.batch_sizes) {
    if (size < 1 || size > 65536) {
      return absl::InvalidArgumentError(
          absl::StrCat("--batch-sizes has ", size, "; sizes are from 1 to 65536"));
    }
  }
  if (!(options.min_seconds >= 0 && options.min_seconds <= 600) || options.most_steps < 1) {
    return absl::InvalidArgumentError(
        "--min-seconds must be from 0 to 600, --most-steps at least 1");
  }
  if (!(options.link_latency_us >= 0 && options.link_message_us >= 0 &&
        options.link_gigabytes_per_second >= 0)) {
    return absl::InvalidArgumentError(
        "--link-latency-us, --link-message-us and --link-gbytes must not be negative");
  }
  return absl::OkStatus();
}

LinkCosts MakeLink(const TraceCostsOptions& options) {
  LinkCosts link;
  if (options.link_latency_us > 0) link.latency_seconds = options.link_latency_us * 1e-6;
  if (options.link_message_us > 0) link.message_seconds = options.link_message_us * 1e-6;
  if (options.link_gigabytes_per_second > 0) {
    link.bytes_per_second = options.link_gigabytes_per_second * 1e9;
    link.measured = options.link_latency_us > 0;
  }
  return link;
}

}  // namespace

absl::Status TraceCosts(const TraceCostsOptions& options) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckCostsOptions(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob resolved, ReadJob(options.job));
  const v1::JobSpec& job = resolved.spec();
  const JobPlan& plan = resolved.plan();
  const AdapterTargets targets{
      .rank = job.lora().rank(),
      .modules = {job.lora().target_modules().begin(), job.lora().target_modules().end()}};
  IMAGEDDPO_ASSIGN_OR_RETURN(const ModelCount count,
                             CountModel(PathOf(job.model().path()), resolved.data().size, targets));
  at::set_num_threads(static_cast<int>(job.device().num_threads()));
  const at::Device device = at::globalContext().hasCUDA() ? at::Device(at::kCUDA, 0) : at::kCPU;
  if (resolved.precision() == Precision::kFp16 && device.is_cpu()) {
    return absl::InvalidArgumentError(
        "`model.precision: fp16` needs a GPU and there is none; measure `bf16`");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      Pipeline pipeline,
      Pipeline::Load(PathOf(job.model().path()),
                     {.device = device, .dtype = DtypeOf(resolved.precision())}));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Schedule schedule,
      pipeline.step_rule->MakeSchedule(job.sample().num_steps(), job.sample().noise_strength()));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      Lora lora,
      Lora::Create(
          pipeline.denoiser->linears(),
          {.rank = targets.rank, .alpha = job.lora().alpha(), .target_modules = targets.modules},
          [](const std::string&, at::IntArrayRef shape) { return at::randn(shape, at::kFloat); },
          device));
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.denoiser->BindLora(lora).status());

  Costs costs;
  costs.device = device.is_cpu() ? "cpu" : "cuda";
  costs.precision = job.model().precision();
  costs.num_threads = static_cast<int>(job.device().num_threads());
  costs.model = job.model().path();
  for (const auto& reward : job.rewards()) {
    absl::StrAppend(&costs.rewards, costs.rewards.empty() ? "" : ", ", reward.type(), " ",
                    reward.measure());
  }
  costs.link = MakeLink(options);
  std::set<int64_t> sizes(options.batch_sizes.begin(), options.batch_sizes.end());
  if (sizes.empty()) sizes = {1, plan.device_batch_size};
  StageTimer timer(options, resolved, std::move(pipeline), std::move(lora), count, schedule,
                   device);
  IMAGEDDPO_RETURN_IF_ERROR(timer.Run({sizes.begin(), sizes.end()}, &costs));
  return WriteFileAtomically(options.output, costs.ToJson());
}

}  // namespace imageddpo
