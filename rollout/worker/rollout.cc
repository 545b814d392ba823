#include "rollout/worker/rollout.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/process.h"
#include "common/base/status.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/log_prob_gradients.h"
#include "common/io/image_tensor.h"
#include "rollout/sampler/sampler.h"

namespace imageddpo {
namespace {

constexpr int64_t kPicturesPerMicroBatch = 8;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The error of an image without a reward, which ends the job.
absl::Status WithRemedy(const absl::Status& status) {
  return {
      status.code(),
      absl::StrCat(status.message(),
                   "; every image needs a finite reward: correct the reward or remove the image "
                   "from the data, or lower `train.learning_rate` if training has made the "
                   "generated images unusable")};
}

absl::StatusOr<std::string> EncodePicture(const at::Tensor& image_CHW) {
  return EncodePng(TensorToImage(image_CHW));
}

}  // namespace

/// A value and all parts for each image of a batch.
struct Rollout::Scores {
  std::vector<double> values_B;
  std::map<std::string, std::vector<double>> parts;
  std::map<std::string, std::string> why_dropped;  ///< As in RewardOutput.
  double wait_seconds = 0;                         ///< That nothing else was done.
};

Rollout::Rollout(const ResolvedJob& job, Pipeline* pipeline, std::unique_ptr<Reward> reward,
                 at::Device device, at::Device records_device,
                 std::chrono::milliseconds reward_timeout)
    : job_(job),
      plan_(job.plan()),
      steps_(job.steps(), job.spec().seed()),
      pipeline_(pipeline),
      device_(device),
      records_device_(records_device),
      reward_(std::move(reward)),
      reward_timeout_(reward_timeout) {}

absl::StatusOr<std::unique_ptr<Rollout>> Rollout::Create(const ResolvedJob& job, Pipeline* pipeline,
                                                         std::unique_ptr<Reward> reward,
                                                         at::Device device,
                                                         const RolloutShare& share,
                                                         std::chrono::milliseconds reward_timeout,
                                                         const DataStart& data_start) {
  std::unique_ptr<Rollout> rollout(
      new Rollout(job, pipeline, std::move(reward), device, share.records_device, reward_timeout));
  IMAGEDDPO_RETURN_IF_ERROR(rollout->SetSize());
  if (job.trains()) IMAGEDDPO_RETURN_IF_ERROR(rollout->OpenData(share, data_start));
  IMAGEDDPO_RETURN_IF_ERROR(rollout->OpenEvaluation(share, data_start));
  IMAGEDDPO_RETURN_IF_ERROR(rollout->CheckClassNames());
  IMAGEDDPO_RETURN_IF_ERROR(rollout->SetPolicy(job.spec().sample(), &rollout->data_));
  IMAGEDDPO_RETURN_IF_ERROR(rollout->CheckTrainedSteps());
  if (rollout->eval_data_.examples != nullptr) {
    IMAGEDDPO_RETURN_IF_ERROR(rollout->SetPolicy(job.eval_sample(), &rollout->eval_data_));
  }
  rollout->prompts_ =
      std::make_unique<PromptCache>(*pipeline, job.spec().data().negative_prompt(),
                                    rollout->Prompts(/*of_all_ranks=*/false), device);
  return rollout;
}

absl::Status Rollout::SetPolicy(const v1::SampleSpec& sample, Images* images) {
  const StepRule& rule = *pipeline_->step_rule;
  IMAGEDDPO_ASSIGN_OR_RETURN(images->schedule,
                             rule.MakeSchedule(sample.num_steps(), sample.noise_strength()));
  IMAGEDDPO_RETURN_IF_ERROR(rule.CheckRunnable(images->schedule, sample.eta()));
  images->policy.emplace(*pipeline_->denoiser, rule, MakePolicyOptions(sample, images->schedule));
  return absl::OkStatus();
}

std::set<std::string> Rollout::Prompts(bool of_all_ranks) const {
  std::set<std::string> prompts;
  for (const Images* images : {&data_, &eval_data_}) {
    if (images->examples == nullptr || !images->uses_prompt()) continue;
    for (int64_t i = 0; i < images->examples->size(); ++i) {
      if (!of_all_ranks && !images->to_come.contains(i)) continue;
      prompts.insert(PromptOf(images->examples->examples().text(i)));
    }
  }
  return prompts;
}

std::vector<std::string> Rollout::PromptWarnings() const {
  std::set<std::string> prompts = Prompts(/*of_all_ranks=*/true);
  prompts.insert(job_.spec().data().negative_prompt());
  return WarnOfCutPrompts(*pipeline_->tokenizer, prompts);
}

std::string Rollout::PromptOf(std::string_view text) const {
  return text.empty() ? job_.spec().data().prompt() : std::string(text);
}

absl::StatusOr<Rollout::Drawn> Rollout::Draw(
    const Images& source, const std::vector<int64_t>& examples,
    const std::function<StreamKey(StreamPurpose, int64_t)>& key_of) {
  const Dataset& dataset = *source.examples;
  Drawn drawn;
  std::vector<at::Tensor> images, targets;
  for (size_t i = 0; i < examples.size(); ++i) {
    drawn.examples.push_back(dataset.at(examples[i]));
    drawn.prompts.push_back(PromptOf(drawn.examples.back().text));
    const auto width = static_cast<int>(size_.width), height = static_cast<int>(size_.height);
    IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor image,
                               source.are_targets ? dataset.LoadTarget(examples[i], width, height)
                                                  : dataset.LoadImage(examples[i], width, height));
    images.push_back(std::move(image));
    if (reward_->wants().targets) {
      IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor target, dataset.LoadTarget(examples[i], width, height));
      targets.push_back(std::move(target));
    }
  }
  drawn.encoded = prompts_->Encode(drawn.prompts, source.uses_prompt());
  drawn.images_BCHW = at::stack(images);
  if (!targets.empty()) drawn.targets_BCHW = at::stack(targets);
  drawn.inputs.posterior =
      source.posteriors->Encode(*pipeline_->vae, examples, drawn.images_BCHW, device_);
  drawn.inputs.conditioning = drawn.encoded.conditioning;
  SetNoise(examples.size(), key_of, &drawn.inputs);
  ReleaseEncoders();
  return drawn;
}

void Rollout::ReleaseEncoders() {
  if (prompts_->complete()) pipeline_->text_encoder.reset();
  const auto is_encoded = [](const Images& images) {
    return !images.posteriors || images.posteriors->complete();
  };
  if (is_encoded(data_) && is_encoded(eval_data_)) pipeline_->vae->ReleaseEncoder();
}

WhenScored<Rollout::Scores> Rollout::StartScoring(const Drawn& drawn,
                                                  const SampledTrajectories& sampled) {
  auto batch = std::make_shared<RewardBatch>();
  batch->kl_to_base_B = sampled.kl_to_base_B;
  batch->generated_BCHW = sampled.images_BCHW;
  batch->inputs_BCHW = drawn.images_BCHW;
  batch->targets_BCHW = drawn.targets_BCHW;
  batch->prompts = drawn.prompts;
  batch->examples = drawn.examples;
  return [pending = reward_->Start(std::move(batch)),
          timeout = reward_timeout_]() mutable -> absl::StatusOr<Scores> {
    const auto start = std::chrono::steady_clock::now();
    IMAGEDDPO_ASSIGN_OR_RETURN(RewardOutput output, pending->Wait(start + timeout));
    Scores scores{.parts = std::move(output.parts),
                  .why_dropped = std::move(output.why_dropped),
                  .wait_seconds = SecondsSince(start)};
    for (const absl::StatusOr<double>& value : output.values_B) {
      if (!value.ok()) return WithRemedy(value.status());
      scores.values_B.push_back(*value);
    }
    return scores;
  };
}

void Rollout::CollectGradients(const Lora* lora, SampleGradients* gradients) {
  lora_ = lora;
  gradients_ = gradients;
}

absl::StatusOr<WhenScored<TrajectoryBatch>> Rollout::Sample(int64_t epoch, int64_t micro_batch,
                                                            int64_t weight_version,
                                                            bool keep_pictures, int64_t next) {
  if (job_.objective() == Objective::kSft) {
    IMAGEDDPO_ASSIGN_OR_RETURN(TrajectoryBatch batch,
                               NoiseTargets(epoch, micro_batch, weight_version, next));
    return [batch = std::move(batch)]() mutable -> absl::StatusOr<TrajectoryBatch> {
      return std::move(batch);
    };
  }
  const auto start = std::chrono::steady_clock::now();
  const MicroBatch of{epoch, micro_batch, weight_version, keep_pictures};
  IMAGEDDPO_ASSIGN_OR_RETURN(Drawn drawn, DrawMicroBatch(epoch, micro_batch, next));
  IMAGEDDPO_ASSIGN_OR_RETURN(WhenScored<TrajectoryBatch> record, SampleDrawn(of, drawn, start));
  if (!job_.advantage().resamples()) return record;
  return [this, of, drawn = std::move(drawn), record = std::move(record)]() mutable {
    return ResampleEqualGroups(of, &drawn, std::move(record));
  };
}

absl::StatusOr<WhenScored<TrajectoryBatch>> Rollout::SampleDrawn(
    const MicroBatch& of, const Drawn& drawn, std::chrono::steady_clock::time_point start) {
  const int64_t first = plan_.FirstSample(of.number);
  std::optional<LogProbGradients> gradients;
  if (gradients_ != nullptr) {
    gradients.emplace(pipeline_->denoiser.get(), *lora_, plan_.device_batch_size,
                      drawn.inputs.conditioning, data_.policy->options().guidance,
                      gradients_->loss_scale());
  }
  const SampledTrajectories sampled =
      SampleTrajectories(*data_.policy, *pipeline_->vae, data_.schedule, drawn.inputs, device_,
                         gradients ? &*gradients : nullptr,
                         {.device = plan_.single_pass ? device_ : records_device_,
                          .means = job_.trust_region().records_means,
                          .base = BaseIf(job_.trust_region().records_base_means),
                          .base_of_all = reward_->wants().kl_to_base,
                          .steps = steps_.Of(of.epoch, first)});
  if (gradients) gradients_->Put(of.number, gradients->Take());
  TrajectoryBatch batch = RecordOf(drawn, of.epoch, of.number, of.weight_version);
  batch.sample_seconds = SecondsSince(start);

  WhenScored<Scores> scores = StartScoring(drawn, sampled);
  batch.latents = sampled.latents_BKCHW.contiguous();
  batch.latent_of_step = sampled.latent_of_step;
  if (job_.trust_region().records_means) batch.means = sampled.means_BKCHW.contiguous();
  if (job_.trust_region().records_base_means) {
    batch.base_means = sampled.base_means_BKCHW.contiguous();
  }
  batch.timesteps_BK = sampled.timesteps_BK.contiguous();
  batch.log_probs_BK = sampled.log_probs_BK.contiguous();
  const int64_t num_pictures =
      of.keep_pictures ? std::min(kPicturesPerMicroBatch, batch.batch_size()) : 0;
  for (int64_t i = 0; i < num_pictures; ++i) {
    for (const auto& [suffix, images] :
         {std::pair("input", drawn.images_BCHW), std::pair("output", sampled.images_BCHW)}) {
      IMAGEDDPO_ASSIGN_OR_RETURN(std::string png, EncodePicture(images[i]));
      batch.pictures.push_back({absl::StrCat(first + i, "-", suffix, ".png"), std::move(png)});
    }
  }
  return [batch = std::move(batch),
          scores = std::move(scores)]() mutable -> absl::StatusOr<TrajectoryBatch> {
    IMAGEDDPO_ASSIGN_OR_RETURN(const Scores scored, std::move(scores)());
    batch.reward_seconds = scored.wait_seconds;
    batch.why_dropped = scored.why_dropped;
    batch.rewards_B = at::tensor(scored.values_B, at::kDouble);
    std::vector<at::Tensor> parts;
    for (const auto& [name, values_B] : scored.parts) {
      batch.part_names.push_back(name);
      parts.push_back(at::tensor(values_B, at::kDouble));
    }
    batch.parts_BP = at::stack(parts, 1).contiguous();
    return std::move(batch);
  };
}

Denoiser* Rollout::BaseIf(bool loss_needs_it) const {
  return loss_needs_it || reward_->wants().kl_to_base ? pipeline_->denoiser.get() : nullptr;
}

std::vector<int64_t> Rollout::ExamplesOf(int64_t epoch, int64_t micro_batch) {
  const int64_t first = epoch * plan_.samples_per_epoch + plan_.FirstSample(micro_batch);
  std::vector<int64_t> examples;
  for (int64_t i = 0; i < plan_.device_batch_size; ++i) examples.push_back((*order_)(first + i));
  return examples;
}

void Rollout::StartLoading(std::vector<int64_t> examples) {
  loading_ =
      std::async(std::launch::async, [this, examples = std::move(examples),
                                      targets = reward_->wants().targets || data_.are_targets] {
        LowerThreadPriority();
        for (const int64_t i : examples) {
          data_.examples->LoadAhead(i, static_cast<int>(size_.width),
                                    static_cast<int>(size_.height), targets);
        }
      });
}

int64_t Rollout::num_eval_images() const {
  if (!eval_data_.examples) return 0;
  const int64_t most = job_.spec().eval().max_images();
  return most > 0 ? std::min(most, eval_data_.examples->size()) : eval_data_.examples->size();
}

int64_t Rollout::num_eval_samples() const {
  return num_eval_images() * job_.spec().eval().num_seeds();
}

int64_t Rollout::num_eval_batches() const {
  return (num_eval_samples() + job_.spec().eval().batch_size() - 1) /
         job_.spec().eval().batch_size();
}

absl::StatusOr<WhenScored<v1::EvalBatch>> Rollout::Evaluate(int64_t batch, int64_t weight_version) {
  const int64_t first = batch * job_.spec().eval().batch_size();
  const int64_t last = std::min(first + job_.spec().eval().batch_size(), num_eval_samples());
  const int64_t num_images = num_eval_images();
  std::vector<int64_t> examples;
  for (int64_t i = first; i < last; ++i) examples.push_back(i % num_images);
  IMAGEDDPO_ASSIGN_OR_RETURN(const Drawn drawn,
                             Draw(eval_data_, examples, [&](StreamPurpose purpose, int64_t i) {
                               const auto sample = static_cast<uint64_t>(first + i);
                               const auto images = static_cast<uint64_t>(num_images);
                               return StreamKey{.seed = job_.spec().eval().seed() + sample / images,
                                                .purpose = StreamPurpose::kEvalNoise,
                                                .epoch = static_cast<uint64_t>(purpose),
                                                .sample = sample % images};
                             }));
  pipeline_->denoiser->FoldLora();
  const absl::Cleanup unfold = [this] { pipeline_->denoiser->UnfoldLora(); };
  const SampledTrajectories sampled = SampleTrajectories(
      *eval_data_.policy, *pipeline_->vae, eval_data_.schedule, drawn.inputs, device_,
      /*gradients=*/nullptr, {.device = device_, .base = BaseIf(false)});
  WhenScored<Scores> scores = StartScoring(drawn, sampled);
  v1::EvalBatch result;
  result.set_weight_version(weight_version);
  result.set_first_sample(first);
  result.set_num_images(num_images);
  for (int64_t i = 0; i < last - first; ++i) {
    result.add_image_ids(drawn.examples[i].id);
    if (first + i >= std::min(num_images, job_.spec().eval().num_pictures())) continue;
    for (const auto& [suffix, images] :
         {std::pair("input", drawn.images_BCHW), std::pair("output", sampled.images_BCHW)}) {
      IMAGEDDPO_ASSIGN_OR_RETURN(std::string png, EncodePicture(images[i]));
      auto* picture = result.add_pictures();
      picture->set_name(absl::StrCat(first + i, "-", suffix, ".png"));
      picture->set_data(std::move(png));
    }
  }
  return [result = std::move(result),
          scores = std::move(scores)]() mutable -> absl::StatusOr<v1::EvalBatch> {
    IMAGEDDPO_ASSIGN_OR_RETURN(const Scores scored, std::move(scores)());
    for (const auto& [name, values_B] : scored.parts) result.add_part_names(name);
    for (size_t i = 0; i < scored.values_B.size(); ++i) {
      result.add_rewards(scored.values_B[i]);
      for (const auto& [name, values_B] : scored.parts) result.add_parts(values_B[i]);
    }
    return std::move(result);
  };
}

}  // namespace imageddpo
