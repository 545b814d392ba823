#include "trainer/loop/trainer_rank.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/base/suggest.h"
#include "common/comm/frame.h"
#include "common/config/choices.h"
#include "common/io/safetensors.h"
#include "common/metrics/epoch_metrics.h"
#include "common/trajectory/record/tags.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "trainer/loop/eval_summary.h"

namespace imageddpo {
namespace {

/// A warning is due when the replay's error exceeds this share of the clip range.
constexpr double kRatioErrorShare = 0.1;
/// The state of the guards on epochs in state.json.
constexpr char kGuards[] = "guards";

}  // namespace

TrainerRank::TrainerRank(JobContext* context, const JobPlan& plan, int index, Trainer* trainer,
                         const Lora* lora, const EpochWork& work)
    : context_(context),
      plan_(plan),
      timeouts_(GangTimeouts::Of(context->start.spec())),
      index_(index),
      trainer_(trainer),
      lora_(lora),
      work_(work),
      rollout_ranks_(context->start.gang().rollout().begin(),
                     context->start.gang().rollout().end()),
      publisher_(&context->gang, rollout_ranks_),
      inbox_(&context->gang, rollout_ranks_),
      next_expected_(trainer->state().epochs_trained),
      guards_(trainer->job()) {
  trainer->Follow(context->followers());
}

absl::Status TrainerRank::Restore(const nlohmann::json& state) {
  return state.contains(kGuards) ? guards_.Restore(state.at(kGuards)) : absl::OkStatus();
}

absl::Status TrainerRank::TakeDataReports() {
  if (!is_leader()) return absl::OkStatus();
  for (const int from : rollout_ranks_) {
    v1::DataReport report;
    if (!report.ParseFromString(context_->gang.RecvBytes(from, kDataTag, timeouts_.phase))) {
      return absl::InternalError(
          absl::StrCat("gang rank ", from, " sent a report on its data that cannot be read"));
    }
    if (from == rollout_ranks_.front()) {
      data_ = std::move(report);
    } else if (report.sha256() != data_.sha256()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the rollout ranks do not have the same images in `data.path`: one has ",
                       data_.num_images(), ", another ", report.num_images(),
                       "; it must be one folder, or equal copies, on all hosts"));
    }
  }
  v1::WorkerMessage message;
  *message.mutable_data() = data_;
  message.mutable_data()->clear_state();
  context_->report(std::move(message));
  return absl::OkStatus();
}

void TrainerRank::PublishWeights(int64_t version) {
  epoch_start_ = context_->clock.NowSeconds();
  publish_seconds_ = 0;
  if (!is_leader() || !trainer_->versions().IsPublished(version)) return;
  // First, so that the version itself is what is bound in the end.
  if (trainer_->versions().EvaluatesAverage(version)) {
    const Lora average = trainer_->AverageLora();
    publisher_.Announce(average, version, average.Hash());
  }
  publisher_.Announce(trainer_->LoraOf(version), version, trainer_->HashOf(version));
  publish_seconds_ = context_->clock.NowSeconds() - epoch_start_;
}

absl::Status TrainerRank::CheckReceipts(int64_t up_to) {
  const double start = context_->clock.NowSeconds();
  while (publisher_.oldest_unchecked() >= 0 && publisher_.oldest_unchecked() <= up_to) {
    const int64_t version = publisher_.oldest_unchecked();
    IMAGEDDPO_RETURN_IF_ERROR(publisher_.CheckReceipts(timeouts_.phase));
    const bool is_last = publisher_.oldest_unchecked() != version;
    if (is_last && trainer_->versions().EvaluationDue(version)) {
      to_be_evaluated_.push_back(version);
    }
  }
  publish_seconds_ += context_->clock.NowSeconds() - start;
  return absl::OkStatus();
}

absl::Status TrainerRank::CollectEvaluations() {
  for (; !to_be_evaluated_.empty(); to_be_evaluated_.pop_front()) {
    const double start = context_->clock.NowSeconds();
    IMAGEDDPO_RETURN_IF_ERROR(CollectEvaluation(to_be_evaluated_.front()));
    epoch_start_ += context_->clock.NowSeconds() - start;  // Evaluation is no part of the epoch.
  }
  return absl::OkStatus();
}

absl::Status TrainerRank::CollectEvaluation(int64_t version) {
  const double start = context_->clock.NowSeconds();
  const v1::EvalSpec& eval = context_->start.spec().eval();
  v1::WorkerMessage message;
  auto* report = message.mutable_eval();
  std::optional<EvalSummary> summary;
  int64_t num_samples = 1;  // The first batch tells.
  for (int64_t first = 0, batch = 0; first < num_samples; first += eval.batch_size(), ++batch) {
    const int from = rollout_ranks_[batch % static_cast<int64_t>(rollout_ranks_.size())];
    v1::EvalBatch result;
    IMAGEDDPO_RETURN_IF_ERROR(
        Annotate(FromFrame(context_->gang.RecvBytes(from, kEvalTag, timeouts_.phase), &result),
                 absl::StrCat("gang rank ", from)));
    if (result.num_images() < 1 || result.first_sample() != first ||
        result.weight_version() != version ||
        (num_samples = result.num_images() * eval.num_seeds()) <= first ||
        result.rewards_size() != std::min(eval.batch_size(), num_samples - first) ||
        result.image_ids_size() != result.rewards_size() ||
        result.parts_size() != result.rewards_size() * result.part_names_size()) {
      return absl::InternalError(
          absl::StrCat("gang rank ", from, " sent another evaluation batch (",
                       result.first_sample(), ", version ", result.weight_version(),
                       ") than the expected one (", first, ", version ", version, ")"));
    }
    if (!summary) summary.emplace(result.num_images());
    summary->Add(result);
    report->mutable_rows()->append(
        EvalSummary::Rows(result, result.num_images(), eval.num_seeds()));
    for (auto& picture : *result.mutable_pictures()) {
      auto* kept = report->add_pictures();
      kept->set_name(picture.name());
      kept->set_data(std::move(*picture.mutable_data()));
    }
  }
  report->set_job_id(context_->start.job_id());
  report->set_epoch(version);
  summary->Report(report);
  IMAGEDDPO_RETURN_IF_ERROR(AddBest(version, report));
  report->set_seconds(context_->clock.NowSeconds() - start);
  guards_.OnEvaluation(*report);
  context_->report(std::move(message));
  return absl::OkStatus();
}

absl::Status TrainerRank::AddBest(int64_t version, v1::EvalReport* report) const {
  const std::string& best = context_->start.spec().checkpoint().best();
  if (best.empty()) return absl::OkStatus();
  const auto part = report->parts_mean().find(best);
  if (best == "reward") {
    report->set_best_value(report->reward_mean());
  } else if (part != report->parts_mean().end()) {
    report->set_best_value(part->second);
  } else {
    std::vector<std::string> measures = {"reward"};
    for (const auto& [name, mean] : report->parts_mean()) measures.push_back(name);
    std::sort(measures.begin(), measures.end());
    return absl::InvalidArgumentError(absl::StrCat(
        "`checkpoint.best` is `", best, "`, and the evaluation has no such number; it has ",
        absl::StrJoin(measures, ", "), DidYouMean(best, measures)));
  }
  const bool is_average = trainer_->versions().EvaluatesAverage(version);
  const Lora lora = is_average ? trainer_->AverageLora() : trainer_->LoraOf(version);
  IMAGEDDPO_ASSIGN_OR_RETURN(*report->mutable_best_lora(),
                             SerializeSafetensors(lora.ToTensors(), lora.Metadata()));
  return absl::OkStatus();
}

void TrainerRank::ExpectUpTo(int64_t epoch) {
  const VersionSchedule& versions = trainer_->versions();
  for (; next_expected_ <= epoch && next_expected_ < versions.num_epochs(); ++next_expected_) {
    const auto needed = trainer_->schedule().LatentsNeeded(next_expected_)[index_];
    const auto num_rollout = static_cast<int>(rollout_ranks_.size());
    const TrustRegionSettings& region = trainer_->job().trust_region();
    std::vector<ExpectedRecord> records;
    for (int64_t m = 0; m < plan_.micro_batches_per_epoch; ++m) {
      records.push_back({.sampler = trainer_->schedule().SamplerOf(m, num_rollout),
                         .job_id = context_->start.job_id(),
                         .epoch = next_expected_,
                         .micro_batch = m,
                         .batch_size = plan_.device_batch_size,
                         .weight_version = versions.SamplingVersion(next_expected_),
                         .with_latents = needed[m],
                         .with_means = needed[m] && region.records_means,
                         .with_base_means = needed[m] && region.records_base_means});
    }
    inbox_.Expect(records);
  }
}

absl::Status TrainerRank::TrainEpoch(int64_t epoch) {
  const double start = context_->clock.NowSeconds();
  const auto stopped = [this] { return context_->stop.requested(); };
  ExpectUpTo(epoch + trainer_->versions().max_staleness());
  std::optional<SpanLog::Span> span(std::in_place, context_->spans, "wait for samples");
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<TrajectoryBatch> batches,
                             inbox_.TakeEpoch(timeouts_.phase, stopped));
  span.emplace(context_->spans, "train");
  wait_seconds_ = context_->clock.NowSeconds() - start;
  ReportTraining(epoch);
  auto trained = trainer_->TrainEpoch(epoch, batches, [&]() -> absl::Status {
    if (stopped()) return absl::CancelledError("the job was asked to stop");
    ReportTraining(epoch);
    return inbox_.Poll();
  });
  span.reset();
  const std::vector<Firing> firings = trainer_->TakeFirings();
  if (is_leader()) ReportFirings(firings);
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<v1::EpochMetrics> rows, std::move(trained));
  train_seconds_ = context_->clock.NowSeconds() - start - wait_seconds_;
  if (context_->start.spec().data().on_error() == WordOf(kOnDataErrors, OnDataError::kSkip)) {
    for (v1::EpochMetrics& row : rows) {
      row.set_images_skipped(data_.num_listed() - data_.num_images());
    }
  }
  if (!is_leader()) return absl::OkStatus();
  ReportEpoch(epoch, batches, rows);
  return JudgeEpoch(OfUpdates(rows));
}

void TrainerRank::ReportFirings(const std::vector<Firing>& firings) {
  for (const Firing& firing : firings) {
    context_->report(ReportOf(firing, trainer_->job().guards(), context_->start.job_id()));
  }
}

absl::Status TrainerRank::JudgeEpoch(const v1::EpochMetrics& metrics) {
  if (!std::isfinite(metrics.update_norm())) {  // It is of all values of the LoRA.
    const Firing firing{.guard = Guard::kNonFinite,
                        .epoch = metrics.epoch(),
                        .good_epochs = metrics.epoch(),
                        .what =
                            "the LoRA has values that are not finite; lower "
                            "train.learning_rate, or go on from an earlier checkpoint",
                        .cannot_skip = true};
    ReportFirings({firing});
    return ActionStatus(firing, trainer_->job().guards());
  }
  verdict_ = absl::OkStatus();
  const std::vector<Firing> firings = guards_.Judge(metrics);
  ReportFirings(firings);
  for (const Firing& firing : firings) {
    const absl::Status status = ActionStatus(firing, trainer_->job().guards());
    if (verdict_.ok() || RollsBackTo(status).has_value()) verdict_ = status;
  }
  return absl::OkStatus();
}

void TrainerRank::ReportTraining(int64_t epoch) {
  if (!is_leader()) return;
  v1::WorkerMessage message;
  auto* progress = message.mutable_progress();
  progress->set_job_id(context_->start.job_id());
  progress->set_stage("training");
  progress->set_epoch(epoch);
  progress->set_samples_done(plan_.samples_per_epoch);
  progress->set_samples_total(plan_.samples_per_epoch);
  context_->report(std::move(message));
}

void TrainerRank::ReportEpoch(int64_t epoch, const std::vector<TrajectoryBatch>& batches,
                              const std::vector<v1::EpochMetrics>& rows) {
  v1::WorkerMessage message;
  v1::EpochReport& report = *message.mutable_epoch();
  report.set_job_id(context_->start.job_id());
  for (const v1::EpochMetrics& row : rows) report.add_metrics_rows(RowOf(row).dump());
  v1::EpochMetrics& metrics = *report.mutable_metrics();
  metrics = OfUpdates(rows);
  metrics.set_epoch_seconds(context_->clock.NowSeconds() - epoch_start_);
  metrics.set_images_per_second(static_cast<double>(plan_.samples_per_epoch) /
                                std::max(metrics.epoch_seconds(), 1e-9));

  std::map<std::string, double> stages = {
      {"publish", publish_seconds_}, {"wait", wait_seconds_}, {"train", train_seconds_}};
  for (const auto& batch : batches) {
    stages["rollout_wait"] += batch.wait_seconds / static_cast<double>(rollout_ranks_.size());
    stages["sample"] += batch.sample_seconds / static_cast<double>(rollout_ranks_.size());
    stages["reward"] += batch.reward_seconds / static_cast<double>(rollout_ranks_.size());
    for (const auto& picture : batch.pictures) {
      auto* kept = report.add_pictures();
      kept->set_name(picture.name);
      kept->set_data(picture.png);
    }
  }
  metrics.mutable_stage_seconds()->insert(stages.begin(), stages.end());
  nlohmann::ordered_json timings = {{"epoch", epoch}, {"epoch_seconds", metrics.epoch_seconds()}};
  for (const auto& [stage, seconds] : stages) timings[stage + "_seconds"] = seconds;
  timings["images_per_second"] = metrics.images_per_second();
  const double flops = work_.Flops(epoch, batches);
  metrics.set_mfu(flops / std::max(metrics.epoch_seconds() * work_.peak_flops, 1e-9));
  timings["flops"] = flops;
  timings["unet_pass_flops"] = work_.forward;
  timings["peak_flops_per_second"] = work_.peak_flops;
  timings["mfu"] = metrics.mfu();
  report.set_timings_row(timings.dump());
  const double ratio_error = metrics.ratio_first_step_max_error();
  context_->report(std::move(message));

  const ClipRange& clip = trainer_->job().clip_range();
  const double clip_range = std::min(clip.low, clip.high);
  if (ratio_error > kRatioErrorShare * clip_range && !ratio_warned_) {
    ratio_warned_ = true;
    context_->Warn(absl::StrCat("ratio_first_step_max_error is ", ratio_error,
                                ", more than a tenth of "
                                "train.clip_range (",
                                clip_range,
                                "): the replay does not repeat the rollout "
                                "and samples are clipped before they have taught anything"));
  }
}

absl::Status TrainerRank::SendCheckpoint() {
  if (!is_leader()) return absl::OkStatus();
  if (RollsBackTo(verdict_).has_value()) return verdict_;
  v1::WorkerMessage message;
  auto* checkpoint = message.mutable_checkpoint();
  checkpoint->set_job_id(context_->start.job_id());
  checkpoint->set_epoch(trainer_->state().epochs_trained);
  checkpoint->set_spare(!trainer_->versions().CheckpointDue(checkpoint->epoch()));
  IMAGEDDPO_ASSIGN_OR_RETURN(*checkpoint->mutable_lora(),
                             SerializeSafetensors(lora_->ToTensors(), lora_->Metadata()));
  IMAGEDDPO_ASSIGN_OR_RETURN(*checkpoint->mutable_optimizer(),
                             SerializeSafetensors(trainer_->OptimizerTensors()));
  nlohmann::ordered_json state = trainer_->StateJson();
  state[kGuards] = guards_.ToJson();
  if (!data_.state().empty()) state["data"] = nlohmann::ordered_json::parse(data_.state());
  checkpoint->set_state(state.dump(1) + '\n');
  if (trainer_->state().average) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        *checkpoint->mutable_ema_lora(),
        SerializeSafetensors(trainer_->AverageLora().ToTensors(), lora_->Metadata()));
  }
  context_->report(std::move(message));
  return verdict_;
}

}  // namespace imageddpo
