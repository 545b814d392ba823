#include "tests/unit/loop/direct_trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "common/trajectory/schedule/update_schedule.h"
#include "common/trajectory/schedule/version_schedule.h"
#include "tests/testing/judged.h"

namespace imageddpo {
std::vector<double> DirectAdvantages(const std::vector<TrajectoryBatch>& batches, double clip) {
  std::vector<double> values;
  double mean = 0, variance = 0;
  for (const auto& batch : batches) {
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      values.push_back(batch.rewards_B[i].item<double>());
    }
  }
  const auto count = static_cast<double>(values.size());
  for (const double value : values) mean += value / count;
  for (const double value : values) variance += (value - mean) * (value - mean) / count;
  for (double& value : values) {
    value = std::clamp((value - mean) / (std::sqrt(variance) + 1e-8), -clip, clip);
  }
  return values;
}

DirectTrainer::DirectTrainer(SmallModel* model, const v1::JobSpec& job)
    : model_(model),
      job_(job),
      plan_(Judged(job).plan()),
      m_P_(at::zeros({model->lora.num_parameters()}, at::kDouble)),
      v_P_(m_P_.clone()) {}

at::Tensor DirectTrainer::LogProb(const TrajectoryBatch& batch, int64_t i, int64_t k) const {
  const at::Tensor latents = batch.latents[i][k].unsqueeze(0);
  const at::Tensor next = batch.latents[i][k + 1].unsqueeze(0);
  const at::Tensor timestep = batch.timesteps_BK[i].narrow(0, k, 1);
  const auto predict = [&](uint64_t hash) {
    return model_->pipeline.denoiser->Forward(latents, timestep,
                                              batch.new_embeddings.at(hash).unsqueeze(0));
  };
  at::Tensor prediction = predict(batch.keys.negative_hash);
  const double scale = job_.sample().guidance_scale();
  if (scale > 1 && !batch.keys.same_tokens[i]) {
    prediction = prediction + scale * (predict(batch.keys.prompt_hashes[i]) - prediction);
  }
  return model_->pipeline.step_rule
      ->Step(prediction, timestep, latents, job_.sample().num_steps(), job_.sample().eta(), {},
             next)
      .log_prob_B[0]
      .to(at::kDouble);
}

std::vector<DirectTrainer::Row> DirectTrainer::TrainEpoch(
    int64_t epoch, const std::vector<TrajectoryBatch>& batches) {
  const v1::TrainSpec& train = job_.train();
  advantages_ = DirectAdvantages(batches, train.adv_clip_max());
  const int64_t age = epoch - VersionSchedule(job_).SamplingVersion(epoch);
  for (const auto& batch : batches) {
    const at::NoGradGuard no_grad;
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      for (int64_t k = 0; k < batch.timesteps_BK.size(1); ++k) {
        proximal_[{batch.micro_batch, i, k}] =
            age > 0 ? LogProb(batch, i, k).item<double>() : batch.log_probs_BK[i][k].item<double>();
      }
    }
  }
  const UpdateSchedule schedule(plan_, job_.seed(), train.num_inner_epochs(), 1);
  std::vector<Row> rows;
  for (int64_t inner = 0; inner < train.num_inner_epochs(); ++inner) {
    for (int64_t update = 0; update < plan_.updates_per_inner_epoch; ++update) {
      rows.push_back(Update(batches, schedule.MicroBatches(epoch, inner, update), age));
    }
  }
  return rows;
}

DirectTrainer::Row DirectTrainer::Update(const std::vector<TrajectoryBatch>& batches,
                                         const std::vector<int64_t>& micro_batches, int64_t age) {
  const int64_t num_steps = batches.front().timesteps_BK.size(1);
  const double weight = 1 / static_cast<double>(plan_.samples_per_update * num_steps);
  const double clip = job_.train().clip_range(), wide = static_cast<double>(1 + age) * clip;
  Row row;
  at::Tensor total = at::zeros({}, at::kDouble);
  for (const int64_t m : micro_batches) {
    const TrajectoryBatch& batch = batches[m];
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      const double advantage = advantages_[batch.first_sample + i];
      for (int64_t k = 0; k < num_steps; ++k) {
        const double proximal = proximal_.at({m, i, k});
        const double behaviour = std::exp(proximal - batch.log_probs_BK[i][k].item<double>());
        const at::Tensor difference = LogProb(batch, i, k) - proximal;
        const at::Tensor ratio = difference.exp();
        const double value = ratio.item<double>();
        // On the side that the advantage pushes to, the loss is flat beyond the bound.
        const double bound = advantage > 0 ? std::min(1 + clip, (1 + wide) / behaviour)
                                           : std::max(1 - clip, (1 - wide) / behaviour);
        const bool is_flat = advantage > 0 ? value > bound : value < bound;
        clip_margin_ = std::min(clip_margin_, std::abs(value - bound) / clip);
        const double share =
            weight * std::min(behaviour, job_.train().staleness_weight_cap()) * -advantage;
        total = total + (is_flat ? at::full_like(ratio, share * bound) : ratio * share);
        row.approx_kl += weight * 0.5 * std::pow(difference.item<double>(), 2);
        row.clipfrac += std::abs(value - 1) > clip ? weight : 0;
      }
    }
  }
  row.loss = total.item<double>();
  total.backward();
  std::vector<at::Tensor> gradients;
  for (at::Tensor& parameter : model_->lora.Parameters()) {
    gradients.push_back(parameter.grad().reshape({-1}).to(at::kDouble));
    parameter.mutable_grad() = at::Tensor();
  }
  Step(at::cat(gradients), &row);
  return row;
}

double DirectTrainer::LearningRate() const {
  const v1::TrainSpec& train = job_.train();
  const auto update = static_cast<double>(updates_);
  const auto warmup = static_cast<double>(train.lr_warmup_updates());
  const auto all = static_cast<double>(job_.num_epochs() * train.num_inner_epochs() *
                                       plan_.updates_per_inner_epoch);
  if (update < warmup) return train.learning_rate() * (update + 1) / warmup;
  if (train.lr_schedule() != "cosine") return train.learning_rate();
  const double least = train.learning_rate() * train.lr_min_ratio();
  const double angle = std::acos(-1.0) * (update - warmup) / (all - warmup);
  return least + (train.learning_rate() - least) * (1 + std::cos(angle)) / 2;
}

void DirectTrainer::Step(at::Tensor gradient_P, Row* row) {
  const v1::TrainSpec& train = job_.train();
  row->learning_rate = LearningRate();
  ++updates_;
  row->grad_norm = gradient_P.norm().item<double>();
  if (!std::isfinite(row->grad_norm)) return;
  gradient_P = gradient_P * std::min(1.0, train.max_grad_norm() / (row->grad_norm + 1e-6));
  ++steps_;
  m_P_ = train.adam_beta1() * m_P_ + (1 - train.adam_beta1()) * gradient_P;
  v_P_ = train.adam_beta2() * v_P_ + (1 - train.adam_beta2()) * gradient_P.pow(2);
  const at::Tensor mean_P = m_P_ / (1 - std::pow(train.adam_beta1(), steps_));
  const at::Tensor square_P = v_P_ / (1 - std::pow(train.adam_beta2(), steps_));
  const at::Tensor values_P = model_->lora.Flatten().to(at::kDouble);
  const double rate = row->learning_rate;
  model_->lora.Unflatten((values_P * (1 - rate * train.adam_weight_decay()) -
                          rate * mean_P / (square_P.sqrt() + train.adam_epsilon()))
                             .to(at::kFloat));
}

}  // namespace imageddpo
