#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/pipeline.h"
#include "common/lora/lora.h"
#include "deploy/trace/trace.h"
#include "deploy/trace/trace_files.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/replay_update.h"
#include "trainer/loop/single_pass_update.h"

namespace imageddpo {
namespace {

absl::Status CheckUpdateOptions(const TraceUpdateOptions& options) {
  if (options.optimizer != "adamw" && options.optimizer != "adamw8bit") {
    return absl::InvalidArgumentError(
        absl::StrCat("--optimizer is ", options.optimizer, ", it must be adamw or adamw8bit"));
  }
  if (options.update != "replay" && options.update != "single_pass") {
    return absl::InvalidArgumentError(
        absl::StrCat("--update is ", options.update, ", it must be replay or single_pass"));
  }
  const std::pair<const char*, int64_t> counts[] = {
      {"--train-batch-size", options.train_batch_size},
      {"--gradient-accumulation-steps", options.gradient_accumulation_steps},
      {"--num-inner-epochs", options.num_inner_epochs}};
  for (const auto& [name, value] : counts) {
    if (value < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is ", value, ", it must be at least 1"));
    }
  }
  return absl::OkStatus();
}

/// A single pass is exact for one update under the weights that sampled, and for nothing else.
absl::Status CheckSinglePass(const TraceUpdateOptions& options, int64_t num_samples) {
  if (options.update != "single_pass") return absl::OkStatus();
  const int64_t micro_batches =
      (num_samples + options.train_batch_size - 1) / options.train_batch_size;
  const int64_t updates =
      options.num_inner_epochs * micro_batches / options.gradient_accumulation_steps;
  if (updates <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--update single_pass is exact for one update, and ", num_samples, " samples make ", updates,
      ": from the second one on the weights are not those that sampled; raise "
      "--gradient-accumulation-steps to ",
      options.num_inner_epochs * micro_batches, " or use --update replay"));
}

/// All N samples of a trajectory file as one batch.
absl::StatusOr<ReplayBatch> ReadSamples(const TraceUpdateOptions& options,
                                        const StepRule& step_rule, at::Device device) {
  const std::string& path = options.trajectory;
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  ReplayBatch all;
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor latents,
                             GetTensor(*file, "latents", at::kFloat, {-1, -1, -1, -1, -1}));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor next,
                             GetTensor(*file, "next_latents", at::kFloat, latents.sizes().vec()));
  const int64_t num_samples = latents.size(0);
  const int64_t num_steps = latents.size(1);
  if (!next.narrow(1, 0, num_steps - 1).equal(latents.narrow(1, 1, num_steps - 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": next_latents[:,k] must be latents[:,k+1]"));
  }
  all.latents_BKCHW = at::cat({latents, next.narrow(1, num_steps - 1, 1)}, 1);
  IMAGEDDPO_ASSIGN_OR_RETURN(all.timesteps_BK,
                             GetTensor(*file, "timesteps", at::kLong, {num_samples, num_steps}));
  if (all.timesteps_BK.min().item<int64_t>() < 0 ||
      all.timesteps_BK.max().item<int64_t>() >= step_rule.num_train_timesteps()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": tensor timesteps has values outside the model's training schedule of ",
        step_rule.num_train_timesteps()));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(all.log_probs_BK,
                             GetTensor(*file, "log_probs", at::kFloat, {num_samples, num_steps}));
  Conditioning& conditioning = all.conditioning;
  IMAGEDDPO_ASSIGN_OR_RETURN(conditioning.prompt_embeds_BLD,
                             GetTensor(*file, "prompt_embeds", at::kFloat, {num_samples, -1, -1}));
  IMAGEDDPO_ASSIGN_OR_RETURN(conditioning.negative_embeds_BLD,
                             GetTensor(*file, "negative_prompt_embeds", at::kFloat,
                                       {num_samples, conditioning.prompt_embeds_BLD.size(1),
                                        conditioning.prompt_embeds_BLD.size(2)}));
  for (int64_t i = 0; i < num_samples; ++i) {  // Equal tokens have equal embeddings.
    conditioning.same_tokens_B.push_back(
        conditioning.prompt_embeds_BLD[i].equal(conditioning.negative_embeds_BLD[i]));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto inputs, SafetensorsFile::Open(options.inputs));
  IMAGEDDPO_ASSIGN_OR_RETURN(all.advantages_B,
                             GetTensor(*inputs, "advantages", at::kFloat, {num_samples}));
  for (at::Tensor* tensor : {&all.latents_BKCHW, &all.log_probs_BK, &all.advantages_B,
                             &conditioning.prompt_embeds_BLD, &conditioning.negative_embeds_BLD}) {
    *tensor = tensor->to(device);
  }
  return all;
}

ReplayBatch Slice(const ReplayBatch& all, int64_t begin, int64_t size) {
  const auto part = [begin, size](const at::Tensor& x) { return x.narrow(0, begin, size); };
  const auto first = all.conditioning.same_tokens_B.begin() + begin;
  return {part(all.latents_BKCHW),
          part(all.timesteps_BK),
          part(all.log_probs_BK),
          part(all.advantages_B),
          {part(all.conditioning.prompt_embeds_BLD), part(all.conditioning.negative_embeds_BLD),
           std::vector<bool>(first, first + size)}};
}

/// Runs the micro-batches in order and gathers what the output file holds.
class UpdateRecorder {
 public:
  UpdateRecorder(const TraceUpdateOptions& options, const Policy& policy, Denoiser* denoiser,
                 const Lora& lora)
      : options_(options),
        loss_({.clip_range = options.clip_range, .adv_clip_max = options.adv_clip_max}),
        policy_(policy),
        denoiser_(denoiser),
        lora_(lora),
        names_(lora.ParameterNames()),
        parameters_(lora.Parameters()),
        replay_(policy, parameters_, loss_),
        single_pass_(&sample_gradients_, loss_),
        optimizer_(names_, parameters_,
                   {.learning_rate = options.learning_rate,
                    .moments_8bit = options.optimizer == "adamw8bit",
                    .min_8bit_size = options.min_8bit_size}) {}

  /// Gradients left over at the end of an inner epoch count towards the next one's first update.
  absl::Status Run(const ReplayBatch& batch) {
    const int64_t num_steps = batch.timesteps_BK.size(1);
    const double weight =
        1.0 / static_cast<double>(options_.gradient_accumulation_steps * num_steps);
    for (const StepStatistics& step :
         StatisticsOf(single_pass() ? AccumulateSinglePass(batch, weight)
                                    : replay_.Accumulate(batch, weight))) {
      losses_.push_back(at::tensor({step.loss, step.approx_kl, step.clipfrac}, at::kFloat));
    }
    if (++micro_batches_ % options_.gradient_accumulation_steps != 0) return absl::OkStatus();

    const at::Tensor gradient_P =
        single_pass() ? single_pass_.TakeGradient() : replay_.TakeGradient();
    const std::vector<at::Tensor> gradients = SplitLike(gradient_P.clone(), parameters_);
    for (size_t i = 0; i < names_.size(); ++i) {
      tensors_[absl::StrCat("grad.", norms_.size(), ".", names_[i])] = gradients[i];
    }
    norms_.push_back(ClipAndStep(gradient_P, options_.max_grad_norm, parameters_, &optimizer_));
    if (std::isfinite(norms_.back())) return absl::OkStatus();
    return absl::OutOfRangeError(
        absl::StrCat("the gradient of update ", norms_.size() - 1, " is not finite"));
  }

  size_t updates() const { return norms_.size(); }

  TensorMap Tensors() const {
    TensorMap tensors = tensors_;
    tensors["losses"] = at::stack(losses_);
    tensors["grad_norm"] = at::tensor(norms_, at::kDouble).to(at::kFloat);
    return tensors;
  }

 private:
  bool single_pass() const { return options_.update == "single_pass"; }

  /// What the rollout of a single pass collects, from the stored latents of its steps.
  at::Tensor AccumulateSinglePass(const ReplayBatch& batch, double weight) {
    const int64_t num_steps = batch.timesteps_BK.size(1);
    LogProbGradients gradients(denoiser_, lora_, batch.advantages_B.size(0), batch.conditioning,
                               policy_.options().guidance);
    StepConditioning conditioning = policy_.Prepare(batch.conditioning);
    for (int64_t k = 0; k < num_steps; ++k) {
      gradients.Add(policy_.Replay(batch.latents_BKCHW.select(1, k).contiguous(),
                                   batch.timesteps_BK.select(1, k).contiguous(), conditioning,
                                   batch.latents_BKCHW.select(1, k + 1).contiguous()));
    }
    conditioning.text.Backward();
    sample_gradients_.Put(micro_batches_, gradients.Take());
    return single_pass_.Accumulate(micro_batches_, batch.advantages_B, num_steps, weight);
  }

  const TraceUpdateOptions& options_;
  PpoLoss loss_;
  const Policy& policy_;
  Denoiser* denoiser_;
  const Lora& lora_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;
  ReplayUpdate replay_;
  SampleGradients sample_gradients_;
  SinglePassUpdate single_pass_;
  AdamW optimizer_;
  int64_t micro_batches_ = 0;
  std::vector<at::Tensor> losses_;
  std::vector<double> norms_;
  TensorMap tensors_;
};

}  // namespace

absl::Status TraceUpdate(const TraceUpdateOptions& options) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckUpdateOptions(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ModelOptions model, MakeModelOptions(options.policy));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Pipeline pipeline,
                             Pipeline::Load(options.model, model, {.vae = false, .text = false}));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ReplayBatch all,
                             ReadSamples(options, *pipeline.step_rule, model.device));
  Schedule schedule{.num_steps = options.policy.num_steps};
  const at::Tensor timesteps_K = all.timesteps_BK[0];
  schedule.timesteps.assign(timesteps_K.const_data_ptr<int64_t>(),
                            timesteps_K.const_data_ptr<int64_t>() + timesteps_K.numel());
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.step_rule->MakeSchedule(schedule.num_steps, 0.0).status());
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.step_rule->CheckRunnable(schedule, options.policy.eta));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Lora lora, Lora::Load(options.lora, pipeline.denoiser->linears(),
                                                         {.device = model.device}));
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.denoiser->BindLora(lora).status());

  const Policy policy(*pipeline.denoiser, *pipeline.step_rule,
                      MakePolicyOptions(options.policy, schedule.timesteps.front()));
  UpdateRecorder recorder(options, policy, pipeline.denoiser.get(), lora);
  const int64_t num_samples = all.advantages_B.size(0);
  IMAGEDDPO_RETURN_IF_ERROR(CheckSinglePass(options, num_samples));
  for (int64_t inner = 0; inner < options.num_inner_epochs; ++inner) {
    for (int64_t begin = 0; begin < num_samples; begin += options.train_batch_size) {
      const int64_t size = std::min(options.train_batch_size, num_samples - begin);
      IMAGEDDPO_RETURN_IF_ERROR(recorder.Run(Slice(all, begin, size)));
    }
  }
  if (recorder.updates() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no update takes place: ", num_samples, " samples make fewer than ",
        options.gradient_accumulation_steps, " micro-batches of ", options.train_batch_size,
        "; lower --gradient-accumulation-steps or --train-batch-size"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(WriteSafetensors(options.output, recorder.Tensors()));
  return lora.Save(options.output_lora);
}

}  // namespace imageddpo
