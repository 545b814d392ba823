#include <string>

#include "common/config/resolve_steps.h"
#include "common/config/reward_types.h"

// Every default of a job, once. Where DDPOConfig (TRL 0.21) has the setting, the value is its
// value, but for three: seed 0 there, save_freq 1 and num_checkpoint_limit 5
// (checkpoint.every_epochs, keep). noise_strength is the original img2img trainer's.
namespace imageddpo {
namespace {

// Sets an optional field that is not present.
#define IMAGEDDPO_DEFAULT(section, field, value) \
  do {                                           \
    if (!(section)->has_##field()) {             \
      (section)->set_##field(value);             \
    }                                            \
  } while (false)

void FillReward(v1::RewardSpec* reward) {
  IMAGEDDPO_DEFAULT(reward, weight, 1.0);
  IMAGEDDPO_DEFAULT(reward, offset, 0.0);
  IMAGEDDPO_DEFAULT(reward, scale, 1.0);
  IMAGEDDPO_DEFAULT(reward, normalize, false);
  IMAGEDDPO_DEFAULT(reward, warmup_epochs, 0);
  IMAGEDDPO_DEFAULT(reward, held_out, false);
  IMAGEDDPO_DEFAULT(reward, on_nan, "fail");
  IMAGEDDPO_DEFAULT(reward, max_dropped, 0.1);
  const RewardTypeInfo* const type = FindRewardType(reward->type());
  const RewardMeasureInfo* const measure =
      type != nullptr ? FindRewardMeasure(*type, reward->measure()) : nullptr;
  IMAGEDDPO_DEFAULT(reward, clamp, measure != nullptr ? measure->default_clamp : 0.0);
  if (type != nullptr && type->has_jpeg_quality) {
    IMAGEDDPO_DEFAULT(reward, jpeg_quality, 95);
  }
  if (type != nullptr && type->has_reference) {
    IMAGEDDPO_DEFAULT(reward, reference, "input");
  }
  if (type != nullptr && type->has_service) FillRewardService(reward);
}

void FillWindow(v1::StepWindowSpec* window) {
  IMAGEDDPO_DEFAULT(window, start, 0);
  IMAGEDDPO_DEFAULT(window, stride, 0);
  IMAGEDDPO_DEFAULT(window, every_epochs, 1);
}

void FillSample(v1::SampleSpec* sample) {
  IMAGEDDPO_DEFAULT(sample, num_steps, 50);
  IMAGEDDPO_DEFAULT(sample, noise_strength, 0.2);
  IMAGEDDPO_DEFAULT(sample, guidance_scale, 5.0);
  IMAGEDDPO_DEFAULT(sample, guidance_rescale, 0.0);
  IMAGEDDPO_DEFAULT(sample, eta, 1.0);
  IMAGEDDPO_DEFAULT(sample, batch_size, 1);
  IMAGEDDPO_DEFAULT(sample, num_batches_per_epoch, 2);
  IMAGEDDPO_DEFAULT(sample, max_staleness, 0);
  IMAGEDDPO_DEFAULT(sample, group_size, 1);
  IMAGEDDPO_DEFAULT(sample, same_init_noise, false);
  if (sample->has_sde_window()) FillWindow(sample->mutable_sde_window());
}

void FillTrain(v1::TrainSpec* train) {
  IMAGEDDPO_DEFAULT(train, objective, "ddpo");
  IMAGEDDPO_DEFAULT(train, batch_size, 1);
  IMAGEDDPO_DEFAULT(train, gradient_accumulation_steps, 1);
  IMAGEDDPO_DEFAULT(train, learning_rate, 3e-4);
  IMAGEDDPO_DEFAULT(train, lr_schedule, "constant");
  IMAGEDDPO_DEFAULT(train, lr_warmup_updates, 0);
  IMAGEDDPO_DEFAULT(train, lr_min_ratio, 0.0);
  IMAGEDDPO_DEFAULT(train, max_grad_zscore, 0.0);
  IMAGEDDPO_DEFAULT(train, ema_decay, 0.0);
  IMAGEDDPO_DEFAULT(train, ema_warmup_updates, 0);
  IMAGEDDPO_DEFAULT(train, clip_range, 1e-4);
  IMAGEDDPO_DEFAULT(train, clip_range_low, 0.0);
  IMAGEDDPO_DEFAULT(train, clip_range_high, 0.0);
  IMAGEDDPO_DEFAULT(train, trust_region, "ratio");
  IMAGEDDPO_DEFAULT(train, kl_limit, 0.1);
  IMAGEDDPO_DEFAULT(train, kl_coef, 0.0);
  IMAGEDDPO_DEFAULT(train, step_fraction, 1.0);
  if (train->has_step_window()) FillWindow(train->mutable_step_window());
  IMAGEDDPO_DEFAULT(train, num_inner_epochs, 1);
  IMAGEDDPO_DEFAULT(train, adv_clip_max, 5.0);
  IMAGEDDPO_DEFAULT(train, max_grad_norm, 1.0);
  IMAGEDDPO_DEFAULT(train, adam_beta1, 0.9);
  IMAGEDDPO_DEFAULT(train, adam_beta2, 0.999);
  IMAGEDDPO_DEFAULT(train, adam_weight_decay, 1e-4);
  IMAGEDDPO_DEFAULT(train, weight_decay_to, "zero");
  IMAGEDDPO_DEFAULT(train, adam_epsilon, 1e-8);
  IMAGEDDPO_DEFAULT(train, optimizer, "adamw");
  IMAGEDDPO_DEFAULT(train, min_8bit_size, 4096);
  IMAGEDDPO_DEFAULT(train, update, "auto");
  IMAGEDDPO_DEFAULT(train, gradient_shards, 0);
  IMAGEDDPO_DEFAULT(train, reduce, "exact");
  IMAGEDDPO_DEFAULT(train, staleness_weight_cap, 2.0);
}

void FillAdvantage(v1::AdvantageSpec* advantage) {
  IMAGEDDPO_DEFAULT(advantage, mode, "global");
  IMAGEDDPO_DEFAULT(advantage, stat_key, "image");
  IMAGEDDPO_DEFAULT(advantage, buffer_size, 16);
  IMAGEDDPO_DEFAULT(advantage, min_count, 16);
  IMAGEDDPO_DEFAULT(advantage, combine, "sum");
  IMAGEDDPO_DEFAULT(advantage, std_of, "group");
  IMAGEDDPO_DEFAULT(advantage, leave_one_out, false);
  IMAGEDDPO_DEFAULT(advantage, zero_std, "keep");
  IMAGEDDPO_DEFAULT(advantage, max_resamples, 2);
}

void FillGuards(v1::GuardsSpec* guards) {
  const auto fill = [](v1::GuardSpec* guard, double threshold) {
    IMAGEDDPO_DEFAULT(guard, policy, "warn");
    IMAGEDDPO_DEFAULT(guard, threshold, threshold);
  };
  IMAGEDDPO_DEFAULT(guards, non_finite, "fail");
  fill(guards->mutable_gradient_spike(), 10);
  fill(guards->mutable_reward_collapse(), 6);
  fill(guards->mutable_approx_kl(), 0.1);
  fill(guards->mutable_kl_to_base(), 0);
  fill(guards->mutable_zero_spread(), 0.9);
  fill(guards->mutable_image_statistics(), 0.5);
  fill(guards->mutable_held_out(), 4);
  IMAGEDDPO_DEFAULT(guards, max_rollbacks, 2);
  IMAGEDDPO_DEFAULT(guards, rollback_lr_factor, 0.5);
  IMAGEDDPO_DEFAULT(guards, rollbacks, 0);
}

// After sample and train.
void FillDevice(v1::JobSpec* job) {
  v1::DeviceSpec* device = job->mutable_device();
  IMAGEDDPO_DEFAULT(device, num_threads, 0);
  IMAGEDDPO_DEFAULT(device, gradient_checkpointing, false);
  IMAGEDDPO_DEFAULT(device, allow_tf32, false);
  IMAGEDDPO_DEFAULT(device, deterministic, true);
  IMAGEDDPO_DEFAULT(device, fused_kernels, false);
  IMAGEDDPO_DEFAULT(device, allow_shared_gpus, false);
  if (device->device_batch_size() == 0) {
    device->set_device_batch_size(MicroBatchChoices(*job, kMostSamplesOnCpu).front());
  }
}

// After sample and device.
void FillEval(v1::JobSpec* job) {
  v1::EvalSpec* eval = job->mutable_eval();
  IMAGEDDPO_DEFAULT(eval, every_epochs, 0);
  IMAGEDDPO_DEFAULT(eval, seed, 7);
  IMAGEDDPO_DEFAULT(eval, max_images, 0);
  IMAGEDDPO_DEFAULT(eval, batch_size, job->device().device_batch_size());
  IMAGEDDPO_DEFAULT(eval, num_pictures, 8);
  IMAGEDDPO_DEFAULT(eval, num_steps, job->sample().num_steps());
  IMAGEDDPO_DEFAULT(eval, noise_strength, job->sample().noise_strength());
  IMAGEDDPO_DEFAULT(eval, guidance_scale, job->sample().guidance_scale());
  IMAGEDDPO_DEFAULT(eval, eta, job->sample().eta());
  IMAGEDDPO_DEFAULT(eval, num_seeds, 1);
  IMAGEDDPO_DEFAULT(eval, use_ema, false);
}

}  // namespace

void FillDefaults(v1::JobSpec* job) {
  IMAGEDDPO_DEFAULT(job, name, "job");
  IMAGEDDPO_DEFAULT(job, seed, 42);
  IMAGEDDPO_DEFAULT(job->mutable_model(), precision, "fp32");

  v1::LoraSpec* lora = job->mutable_lora();
  IMAGEDDPO_DEFAULT(lora, rank, 4);
  IMAGEDDPO_DEFAULT(lora, alpha, 4.0);
  IMAGEDDPO_DEFAULT(lora, unsupported_modules, "refuse");
  if (lora->target_modules().empty()) {
    for (const char* module : {"to_q", "to_k", "to_v", "to_out.0"})
      lora->add_target_modules(module);
  }

  v1::DataSpec* data = job->mutable_data();
  IMAGEDDPO_DEFAULT(data, prompt, "");
  IMAGEDDPO_DEFAULT(data, negative_prompt, "");
  IMAGEDDPO_DEFAULT(data, resolution, 0);
  IMAGEDDPO_DEFAULT(data, on_error, "fail");
  IMAGEDDPO_DEFAULT(data, text_column, "text");
  IMAGEDDPO_DEFAULT(data, allow_change, false);
  IMAGEDDPO_DEFAULT(data, layout, "auto");
  IMAGEDDPO_DEFAULT(data, resize, "crop");
  IMAGEDDPO_DEFAULT(data, severity, 0);
  if (data->has_corrupt()) {
    IMAGEDDPO_DEFAULT(data->mutable_corrupt(), severity, 1);
    IMAGEDDPO_DEFAULT(data->mutable_corrupt(), seed, 0);
  }

  for (v1::RewardSpec& reward : *job->mutable_rewards()) FillReward(&reward);
  FillSample(job->mutable_sample());
  FillTrain(job->mutable_train());
  FillAdvantage(job->mutable_advantage());
  FillGuards(job->mutable_guards());
  FillDevice(job);
  FillEval(job);

  IMAGEDDPO_DEFAULT(job, num_epochs, 100);
  IMAGEDDPO_DEFAULT(job, max_stage_seconds, 21600.0);
  IMAGEDDPO_DEFAULT(job->mutable_checkpoint(), every_epochs, 10);
  IMAGEDDPO_DEFAULT(job->mutable_checkpoint(), keep, 3);
  IMAGEDDPO_DEFAULT(job->mutable_checkpoint(), every_minutes, 0.0);
  IMAGEDDPO_DEFAULT(job->mutable_checkpoint(), best_mode, "max");
  job->mutable_topology();  // Empty: auto.
}

#undef IMAGEDDPO_DEFAULT

}  // namespace imageddpo
