#include "trainer/loop/trainer.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/base/status.h"
#include "common/device/copies.h"
#include "trainer/algo/group_advantages.h"
#include "trainer/algo/learning_rate.h"
#include "trainer/algo/moments.h"
#include "trainer/loop/update_numbers.h"

namespace imageddpo {
namespace {

AdamWOptions MakeAdamWOptions(const ResolvedJob& job) {
  const v1::TrainSpec& train = job.spec().train();
  return {.learning_rate = train.learning_rate(),
          .beta1 = train.adam_beta1(),
          .beta2 = train.adam_beta2(),
          .epsilon = train.adam_epsilon(),
          .weight_decay = train.adam_weight_decay(),
          .moments_8bit = job.optimizer() == OptimizerKind::kAdamW8bit,
          .min_8bit_size = train.min_8bit_size()};
}

/// [B] float32 of the epoch's advantages.
at::Tensor AdvantagesOf(const TrajectoryBatch& batch, const std::vector<double>& advantages) {
  const at::Tensor advantages_B = at::zeros({batch.batch_size()}, at::kFloat);
  auto* values = advantages_B.mutable_data_ptr<float>();
  for (int64_t i = 0; i < batch.batch_size(); ++i) {
    values[i] = static_cast<float>(advantages[batch.first_sample + i]);
  }
  return advantages_B;
}

}  // namespace

Trainer::Trainer(const ResolvedJob& job, const Policy& policy, Lora* lora,
                 std::unique_ptr<AdvantageRule> advantages, std::unique_ptr<LossRule> loss,
                 ShardExchange* exchange, SampleGradients* gradients)
    : job_(job),
      plan_(job.plan()),
      lora_(lora),
      combination_(job),
      advantage_rule_(std::move(advantages)),
      loss_rule_(std::move(loss)),
      exchange_(exchange),
      gradients_(gradients),
      schedule_(plan_, job.spec().seed(), job.spec().train().num_inner_epochs(),
                exchange->num_trainers()),
      versions_(job.spec()),
      optimizer_(lora->ParameterNames(), lora->Parameters(), MakeAdamWOptions(job)),
      replay_(job.objective() == Objective::kSft ? policy.WithoutGuidance() : policy,
              lora->Parameters(), *loss_rule_),
      single_pass_(gradients, *loss_rule_),
      norms_(*lora),
      state_(job) {
  const v1::TrainSpec& train = job.spec().train();
  if (train.ema_decay() > 0) {
    state_.average.emplace(train.ema_decay(), train.ema_warmup_updates(), lora->Flatten());
  }
  if (job.decay_target() == DecayTarget::kInitial) {
    initial_ = lora->Clone();
    optimizer_.DecayTowards(initial_->Parameters());
  }
  UseLossScale();
}

void Trainer::UseLossScale() {
  const double scale = state_.loss_scaler.scale();
  replay_.SetLossScale(scale);
  if (plan_.single_pass) gradients_->set_loss_scale(scale);
}

absl::StatusOr<std::vector<double>> Trainer::Advantages(const EpochRewards& epoch) {
  for (size_t i = 0; i < epoch.rewards.size(); ++i) {
    if (!std::isfinite(epoch.rewards[i])) {
      return absl::OutOfRangeError(
          absl::StrCat("sample ", i, " has the reward ", epoch.rewards[i],
                       "; rewards must be finite: check the reward model"));
    }
  }
  std::vector<double> advantages = advantage_rule_->Advantages(epoch);
  if (advantages.size() != epoch.rewards.size()) {
    return absl::InternalError(absl::StrCat("the rule of advantages gave ", advantages.size(),
                                            " for ", epoch.rewards.size(), " rewards"));
  }
  return advantages;
}

absl::StatusOr<std::vector<double>> Trainer::JudgeRewards(
    int64_t epoch, const std::vector<TrajectoryBatch>& batches, v1::EpochMetrics* metrics) {
  IMAGEDDPO_ASSIGN_OR_RETURN(EpochScores scores,
                             ScoresOf(job_, epoch, batches, combination_.parts()));
  if (!combination_.parts().empty()) {
    combination_.Combine(epoch, std::move(scores.values_TN), &scores.rewards);
  }
  const Moments reward = MomentsOf(scores.rewards.rewards);
  metrics->set_reward_mean(reward.mean);
  metrics->set_reward_std(reward.std);
  SetRewardSpread(scores.rewards.rewards, metrics);
  if (job_.advantage().mode == AdvantageMode::kGroup) {
    const GroupSpread spread = SpreadOfGroups(scores.rewards, job_.advantage().combine);
    metrics->set_zero_std_ratio(spread.zero_ratio);
    if (job_.advantage().zero_std != ZeroStd::kKeep) scores.Keep(spread.has_spread);
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<double> of_kept, Advantages(scores.rewards));
  SetAdvantageSpread(of_kept, scores.is_kept.size(), metrics);
  is_kept_ = scores.is_kept;
  const std::map<std::string, double> parts_mean = MeansOfParts(batches);
  metrics->mutable_parts_mean()->insert(parts_mean.begin(), parts_mean.end());
  return scores.ForAll(of_kept);
}

absl::StatusOr<std::vector<v1::EpochMetrics>> Trainer::TrainEpoch(
    int64_t epoch, const std::vector<TrajectoryBatch>& batches, const Between& between) {
  embeddings_.clear();
  for (const auto& batch : batches) {
    if (batch.weight_version != versions_.SamplingVersion(epoch)) {
      return absl::InternalError(absl::StrCat(
          "epoch ", epoch, " has a sample of LoRA version ", batch.weight_version, ", expected ",
          versions_.SamplingVersion(epoch), ": versions are never mixed"));
    }
    for (const auto& [hash, embedding] : batch.new_embeddings) {
      embeddings_.try_emplace(hash, MoveTo(embedding, lora_->Parameters().front().device()));
    }
  }
  v1::EpochMetrics of_epoch;  // What all rows of the epoch have in common.
  std::vector<double> advantages(static_cast<size_t>(plan_.samples_per_epoch), 0);
  is_kept_.assign(advantages.size(), true);
  if (job_.objective() == Objective::kDdpo) {
    IMAGEDDPO_ASSIGN_OR_RETURN(advantages, JudgeRewards(epoch, batches, &of_epoch));
  }
  state_.samples_seen += static_cast<int64_t>(is_kept_.size());

  KeepVersion(epoch);
  IMAGEDDPO_RETURN_IF_ERROR(ComputeProximal(epoch, batches, advantages, between));
  std::vector<v1::EpochMetrics> rows;
  for (int64_t inner = 0; inner < job_.spec().train().num_inner_epochs(); ++inner) {
    for (int64_t update = 0; update < plan_.updates_per_inner_epoch; ++update) {
      IMAGEDDPO_ASSIGN_OR_RETURN(v1::EpochMetrics row,
                                 Update(epoch, inner, update, batches, advantages, between));
      row.MergeFrom(of_epoch);
      if (rows.empty()) {
        state_.ratio_first_step_max_error =
            std::max(state_.ratio_first_step_max_error, row.ratio_first_step_max_error());
      } else {
        row.set_ratio_first_step_max_error(rows.front().ratio_first_step_max_error());
      }
      rows.push_back(std::move(row));
    }
  }
  hashed_ = {.version = epoch + 1, .hash = lora_->Hash()};
  const std::vector<int> differing =
      exchange_->num_trainers() > 1 ? exchange_->Differing(hashed_.hash) : std::vector<int>();
  if (!differing.empty()) {
    return absl::InternalError(absl::StrCat(
        "after epoch ", epoch, " the trainers' LoRAs differ: that of trainer ",
        absl::StrJoin(differing, ", "), " is not that of trainer 0, although all take the same ",
        "steps; a rank computes or keeps wrong values"));
  }
  norms_.TakeInto(&rows);
  state_.epochs_trained = epoch + 1;
  return rows;
}

absl::StatusOr<v1::EpochMetrics> Trainer::Update(int64_t epoch, int64_t inner_epoch,
                                                 int64_t update_in_epoch,
                                                 const std::vector<TrajectoryBatch>& batches,
                                                 const std::vector<double>& advantages,
                                                 const Between& between) {
  const std::vector<int64_t> micro_batches =
      schedule_.MicroBatches(epoch, inner_epoch, update_in_epoch);
  const int64_t num_micro = plan_.micro_batches_per_update;
  const int64_t num_steps = batches.front().timesteps_BK.size(1);
  const double kept_share = KeptShare(batches, micro_batches);
  const double weight = 1.0 / kept_share / static_cast<double>(num_micro * num_steps);

  std::map<int64_t, at::Tensor> numbers_of;  // By position: of those that this rank computes.
  const bool first_update = inner_epoch == 0 && update_in_epoch == 0;
  const int64_t sample_age = epoch - versions_.SamplingVersion(epoch);
  const auto compute = [&](int64_t shard) -> absl::StatusOr<at::Tensor> {
    const auto [begin, end] = plan_.ShardRange(shard);
    for (int64_t p = begin; p < end; ++p) {
      IMAGEDDPO_ASSIGN_OR_RETURN(numbers_of[p], Accumulate(batches[micro_batches[p]], advantages,
                                                           weight, sample_age, first_update));
      IMAGEDDPO_RETURN_IF_ERROR(between());
    }
    return plan_.single_pass ? single_pass_.TakeGradient() : replay_.TakeGradient();
  };
  std::optional<SpanLog::Span> span(std::in_place, followers_.spans, "gradients and exchange");
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const at::Tensor gradient_P,
      exchange_->SumShards(
          plan_.gradient_shards, lora_->num_parameters(),
          [this](int64_t shard) { return schedule_.OwnerOfShard(shard); }, compute));
  const auto owner_of_position = [this](int64_t position) {
    return schedule_.OwnerOfShard(plan_.ShardOf(position));
  };
  span.emplace(followers_.spans, "exchange of numbers");
  const at::Tensor numbers = ReadNumbers(numbers_of, num_micro, num_steps);
  exchange_->AllGatherRows(numbers, owner_of_position);
  span.emplace(followers_.spans, "optimizer");
  const auto part = [&](int64_t first, int64_t width) {
    return numbers.narrow(2, first, width).contiguous();
  };
  const at::Tensor statistics = part(0, kStatisticsPerStep);
  const at::Tensor sides = part(kStatisticsPerStep, kSidesPerStep);

  const double learning_rate = LearningRateOf(state_.updates, job_.learning_rate());
  optimizer_.set_learning_rate(learning_rate);
  bool is_accepted = true;
  norms_.Begin();
  const double grad_norm =
      ClipAndStep(MoveTo(gradient_P, lora_->Parameters().front().device()),
                  job_.spec().train().max_grad_norm(), lora_->Parameters(), &optimizer_,
                  [&](double norm) { return is_accepted = state_.guards.Accepts(norm); });
  IMAGEDDPO_RETURN_IF_ERROR(state_.guards.EndUpdate(epoch, state_.updates));
  const LossScaler::Verdict verdict = state_.loss_scaler.Judge(std::isfinite(grad_norm));
  if (verdict == LossScaler::Verdict::kStop) {
    IMAGEDDPO_RETURN_IF_ERROR(state_.guards.NotFinite(epoch, state_.updates));
  }
  UseLossScale();
  const bool overflowed = verdict != LossScaler::Verdict::kStep;
  const bool skipped = overflowed || !is_accepted;
  v1::EpochMetrics metrics;
  metrics.set_epoch(epoch);
  metrics.set_inner_epoch(inner_epoch);
  metrics.set_update(state_.updates++);
  metrics.set_samples_seen(state_.samples_seen);
  const at::Tensor mean = statistics.mean(at::IntArrayRef{0, 1});
  metrics.set_loss(mean[0].item<double>() / kept_share);
  metrics.set_approx_kl(mean[1].item<double>());
  metrics.set_clipfrac(mean[2].item<double>());
  const at::Tensor mean_of_sides = sides.mean(at::IntArrayRef{0, 1});
  metrics.set_clip_fraction_high(mean_of_sides[0].item<double>());
  metrics.set_clip_fraction_low(mean_of_sides[1].item<double>());
  metrics.set_grad_norm(overflowed ? 0 : grad_norm);
  metrics.set_learning_rate(learning_rate);
  if (!skipped) {
    if (state_.average) state_.average->Update(lora_->Flatten(), optimizer_.step());
    loss_rule_->EndUpdate(
        {.loss = metrics.loss(), .approx_kl = metrics.approx_kl(), .clipfrac = metrics.clipfrac()});
  }
  norms_.End(state_.average ? &*state_.average : nullptr);
  if (job_.objective() == Objective::kSft) metrics.set_sft_loss(metrics.loss());
  if (first_update) {
    metrics.set_ratio_first_step_max_error(statistics.select(2, 3).max().item<double>());
  }
  const at::Tensor ratios = part(kStatisticsPerStep + kSidesPerStep, kStalenessPerStep);
  SetRatios(versions_.max_staleness() > 0 ? std::optional(sample_age) : std::nullopt,
            ratios.mean(at::IntArrayRef{0, 1}), &metrics);
  SetKl(job_.trust_region(), part(kNumbersPerStep - kKlPerStep, kKlPerStep), &metrics);
  if (state_.loss_scaler.enabled()) {
    metrics.set_loss_scale(state_.loss_scaler.scale());
  }
  if (state_.loss_scaler.enabled() || state_.guards.skips()) {
    metrics.set_skipped(skipped);
    metrics.set_skipped_updates(state_.loss_scaler.skipped() + state_.guards.skipped());
  }
  return metrics;
}

at::Tensor Trainer::KeptOf(const TrajectoryBatch& batch) const {
  const at::Tensor is_kept_B = at::zeros({batch.batch_size()}, at::kBool);
  std::copy_n(is_kept_.begin() + batch.first_sample, batch.batch_size(),
              is_kept_B.mutable_data_ptr<bool>());
  return is_kept_B;
}

double Trainer::KeptShare(const std::vector<TrajectoryBatch>& batches,
                          const std::vector<int64_t>& micro_batches) const {
  int64_t kept = 0, all = 0;
  for (const int64_t m : micro_batches) {
    const auto first = is_kept_.begin() + batches[m].first_sample;
    kept += std::count(first, first + batches[m].batch_size(), true);
    all += batches[m].batch_size();
  }
  return kept > 0 ? static_cast<double>(kept) / static_cast<double>(all) : 1.0;
}

absl::StatusOr<at::Tensor> Trainer::Accumulate(const TrajectoryBatch& batch,
                                               const std::vector<double>& advantages, double weight,
                                               int64_t age, bool first_update) {
  const WorkItem item(followers_, "training", "micro-batch");
  if (plan_.single_pass) {
    return single_pass_.Accumulate(batch.micro_batch, AdvantagesOf(batch, advantages),
                                   batch.timesteps_BK.size(1), weight);
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(ReplayBatch replay, MakeReplayBatch(batch, advantages));
  if (job_.objective() == Objective::kSft) return replay_.AccumulateDenoising(replay, weight);
  if (age > 0) {
    replay.age = age;
    replay.proximal =
        first_update ? ReplayBatch::Proximal::kCurrent : ReplayBatch::Proximal::kGiven;
    if (!first_update) replay.proximal_log_probs_BK = proximal_.at(batch.micro_batch);
  }
  return replay_.Accumulate(replay, weight);
}

absl::Status Trainer::ComputeProximal(int64_t epoch, const std::vector<TrajectoryBatch>& batches,
                                      const std::vector<double>& advantages,
                                      const Between& between) {
  proximal_.clear();
  if (versions_.SamplingVersion(epoch) == epoch) return absl::OkStatus();  // Recorded.
  for (const int64_t m : schedule_.ReplayedAfterFirstUpdate(epoch, exchange_->my_index())) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const ReplayBatch replay, MakeReplayBatch(batches[m], advantages));
    const WorkItem item(followers_, "training", "log-probabilities");
    proximal_[m] = replay_.LogProbs(replay);
    IMAGEDDPO_RETURN_IF_ERROR(between());
  }
  return absl::OkStatus();
}

absl::StatusOr<ReplayBatch> Trainer::MakeReplayBatch(const TrajectoryBatch& batch,
                                                     const std::vector<double>& advantages) const {
  const auto embed = [this](const std::vector<uint64_t>& hashes) -> absl::StatusOr<at::Tensor> {
    std::vector<at::Tensor> rows;
    for (const uint64_t hash : hashes) {
      const auto found = embeddings_.find(hash);
      if (found == embeddings_.end()) {
        return absl::InternalError(absl::StrCat("no embedding was received for prompt ", hash));
      }
      rows.push_back(found->second);
    }
    return at::stack(rows);
  };
  const int64_t b = batch.batch_size();
  ReplayBatch replay{.latents_BKCHW = batch.latents,
                     .timesteps_BK = batch.timesteps_BK,
                     .log_probs_BK = batch.log_probs_BK,
                     .advantages_B = AdvantagesOf(batch, advantages),
                     .means_BKCHW = batch.means,
                     .base_means_BKCHW = batch.base_means,
                     .latent_of_step = batch.latent_of_step};
  const TrustRegionSettings& region = job_.trust_region();
  if (region.records_means != batch.means.defined() ||
      region.records_base_means != batch.base_means.defined()) {
    return absl::InternalError(absl::StrCat("micro-batch ", batch.micro_batch, " of epoch ",
                                            batch.epoch,
                                            " has other means of steps than the loss needs"));
  }
  if (region.kl_coef > 0) replay.is_kept_B = KeptOf(batch);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      replay.conditioning.negative_embeds_BLD,
      embed(std::vector<uint64_t>(static_cast<size_t>(b), batch.keys.negative_hash)));
  if (job_.uses_prompt()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(replay.conditioning.prompt_embeds_BLD,
                               embed(batch.keys.prompt_hashes));
    if (job_.objective() == Objective::kSft) {  // The one text of a policy without guidance.
      replay.conditioning.negative_embeds_BLD = replay.conditioning.prompt_embeds_BLD;
    }
  }
  replay.conditioning.same_tokens_B = batch.keys.same_tokens;
  return replay;
}

}  // namespace imageddpo
