#include "tests/unit/loop/small_job.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <thread>
#include <utility>

#include "common/config/job_config.h"
#include "common/diffusion/keyed_noise.h"
#include "common/model_config/unet_config.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

constexpr char kModelDir[] = "deploy/demo/tiny-sd";
constexpr int64_t kSide = 4;  // Latent pixels each way.
constexpr int64_t kTokens = 5;
constexpr int64_t kPrompts = 4;  // The last one has the tokens of the negative prompt.
constexpr uint64_t kNegativeHash = 7;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

uint64_t HashOfPrompt(int64_t prompt) {
  return prompt == kPrompts - 1 ? kNegativeHash : 100 + static_cast<uint64_t>(prompt);
}

at::Tensor EmbeddingOf(uint64_t hash, int64_t width) {
  return KeyedNormal({.seed = hash, .purpose = StreamPurpose::kEncodeNoise}, {kTokens, width});
}

}  // namespace

v1::JobSpec SmallJob() {
  v1::JobSpec job = Must(ParseJobYaml(
      "seed: 3\n"
      "num_epochs: 3\n"
      "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 10,\n"
      "         num_batches_per_epoch: 1}\n"
      "train: {batch_size: 10, update: replay, gradient_shards: 4, adv_clip_max: 1}\n"
      "device: {device_batch_size: 2, num_threads: 1}\n",
      "job.yaml"));
  job = Judged(job).spec();
  return job;
}

SmallModel::SmallModel() {
  at::set_num_threads(1);
  pipeline = Must(Pipeline::Load(kModelDir, {}, {.vae = false, .text = false}));
  uint64_t number = 0;
  const auto normal = [&number](at::IntArrayRef shape) {
    return KeyedNormal({.purpose = StreamPurpose::kLoraInit, .sample = number++}, shape);
  };
  lora =
      Must(Lora::Create(pipeline.denoiser->linears(), {},
                        [&](const std::string&, at::IntArrayRef shape) { return normal(shape); }));
  const at::NoGradGuard no_grad;
  for (const Lora::Module& module : lora.modules()) {
    module.up_OR.copy_(normal(module.up_OR.sizes()).mul_(0.1));
  }
  Must(pipeline.denoiser->BindLora(lora));
}

Policy SmallModel::MakePolicy(const v1::JobSpec& job) const {
  const v1::SampleSpec& sample = job.sample();
  const Schedule schedule =
      Must(pipeline.step_rule->MakeSchedule(sample.num_steps(), sample.noise_strength()));
  return {*pipeline.denoiser, *pipeline.step_rule,
          MakePolicyOptions(Judged(job).spec().sample(), schedule)};
}

std::vector<TrajectoryBatch> SampleEpoch(const SmallModel& model, const v1::JobSpec& job,
                                         int64_t epoch, int64_t version) {
  const UnetConfig config = Must(UnetConfig::Load(absl::StrCat(kModelDir, "/unet/config.json")));
  return SampleEpoch(model.MakePolicy(job), config.in_channels, config.cross_attention_dim, job,
                     epoch, version, model.pipeline.denoiser.get());
}

std::vector<TrajectoryBatch> SampleEpoch(const Policy& policy, int64_t channels, int64_t text_width,
                                         const v1::JobSpec& job, int64_t epoch, int64_t version,
                                         Denoiser* denoiser) {
  const at::NoGradGuard no_grad;
  const TrustRegionSettings region = Judged(job).trust_region();
  const JobPlan plan = Judged(job).plan();
  const std::vector<int64_t> timesteps =
      Must(policy.step_rule().MakeSchedule(job.sample().num_steps(), job.sample().noise_strength()))
          .timesteps;
  std::vector<TrajectoryBatch> batches;
  for (int64_t m = 0; m < plan.micro_batches_per_epoch; ++m) {
    TrajectoryBatch batch;
    batch.job_id = "job-1";
    batch.epoch = epoch;
    batch.micro_batch = m;
    batch.first_sample = plan.FirstSample(m);
    batch.weight_version = version;
    batch.keys.negative_hash = kNegativeHash;
    batch.part_names = {"jpeg"};
    Conditioning conditioning;
    std::vector<at::Tensor> prompt_embeds, negative_embeds;
    std::vector<double> rewards;
    for (int64_t i = 0; i < plan.device_batch_size; ++i) {
      const int64_t sample = batch.first_sample + i, prompt = sample % kPrompts;
      const uint64_t hash = HashOfPrompt(prompt);
      batch.image_ids.push_back(absl::StrCat("image-", sample % 3));
      batch.prompts.push_back(absl::StrCat("prompt ", prompt));
      batch.keys.prompt_hashes.push_back(hash);
      batch.keys.same_tokens.push_back(hash == kNegativeHash);
      for (const uint64_t h : {hash, kNegativeHash}) {
        batch.new_embeddings[h] = EmbeddingOf(h, text_width);
      }
      prompt_embeds.push_back(batch.new_embeddings.at(hash));
      negative_embeds.push_back(batch.new_embeddings.at(kNegativeHash));
      rewards.push_back(std::sin(static_cast<double>(1 + sample + 17 * epoch)));
    }
    conditioning.prompt_embeds_BLD = at::stack(prompt_embeds);
    conditioning.negative_embeds_BLD = at::stack(negative_embeds);
    conditioning.same_tokens_B = batch.keys.same_tokens;

    const StepConditioning prepared = policy.Prepare(conditioning);
    const auto noise = [&](int64_t step) {
      return KeyedNormal({.seed = job.seed(),
                          .purpose = StreamPurpose::kStepNoise,
                          .epoch = static_cast<uint64_t>(epoch),
                          .sample = static_cast<uint64_t>(m),
                          .step = static_cast<uint64_t>(step)},
                         {plan.device_batch_size, channels, kSide, kSide});
    };
    std::vector<at::Tensor> latents = {noise(0)}, log_probs, means;
    for (size_t k = 0; k < timesteps.size(); ++k) {
      const auto step =
          policy.Sample(latents.back(), at::full({plan.device_batch_size}, timesteps[k], at::kLong),
                        prepared, noise(static_cast<int64_t>(k) + 1));
      latents.push_back(step.prev_sample_BCHW);
      log_probs.push_back(step.log_prob_B);
      means.push_back(step.mean_BCHW);
    }
    if (region.records_means) batch.means = at::stack(means, 1);
    if (region.records_base_means) {
      const WithoutLora base(denoiser);
      const StepConditioning of_base = policy.Prepare(conditioning);
      for (size_t k = 0; k < timesteps.size(); ++k) {
        means[k] =
            policy
                .Replay(latents[k], at::full({plan.device_batch_size}, timesteps[k], at::kLong),
                        of_base, latents[k + 1])
                .mean_BCHW;
      }
      batch.base_means = at::stack(means, 1);
    }
    batch.latents = at::stack(latents, 1);
    batch.timesteps_BK = at::tensor(timesteps, at::kLong).repeat({plan.device_batch_size, 1});
    batch.log_probs_BK = at::stack(log_probs, 1);
    batch.rewards_B = at::tensor(rewards, at::kDouble);
    batch.parts_BP = batch.rewards_B.unsqueeze(1) * 2;
    batches.push_back(std::move(batch));
  }
  return batches;
}

void RunOnThreads(int count, const std::function<void(int index)>& work) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  for (int index = 0; index < count; ++index) {
    threads.emplace_back([&work, index] {
      at::set_num_threads(
          1);  // As SmallModel, which draws the samples; it holds for a thread alone.
      try {
        work(index);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "thread " << index << ": " << error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace imageddpo
