#include "rollout/worker/rollout_rank.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/trajectory/record/tags.h"
#include "common/worker/gang_timeouts.h"

namespace imageddpo {
namespace {

constexpr size_t kRecordsInFlight = 4;

absl::Status Cancelled() { return absl::CancelledError("the job was asked to stop"); }

}  // namespace

RolloutRank::RolloutRank(JobContext* context, const JobPlan& plan, int index, Rollout* rollout,
                         Denoiser* denoiser, Lora* lora)
    : context_(context),
      plan_(plan),
      index_(index),
      num_rollout_(context->start.gang().rollout_size()),
      leader_(context->start.gang().trainer(0)),
      rollout_(rollout),
      denoiser_(denoiser),
      lora_(lora),
      schedule_(plan, context->start.spec().seed(),
                context->start.spec().train().num_inner_epochs(),
                context->start.gang().trainer_size()),
      versions_(context->start.spec()),
      weights_(&context->gang, leader_,
               {context->start.gang().rollout().begin(), context->start.gang().rollout().end()}) {
  const auto& trainers = context->start.gang().trainer();
  // A colocated rank receives only after it has sampled, so ranks that waited for each other's
  // receives here would deadlock. They send without a limit; at most the records of the epochs that
  // sampling runs ahead are under way.
  const bool trains_too =
      std::find(trainers.begin(), trainers.end(), context->gang_rank) != trainers.end();
  const size_t in_flight =
      trains_too ? static_cast<size_t>((context->start.spec().sample().max_staleness() + 1) *
                                       plan.micro_batches_per_epoch) +
                       1
                 : kRecordsInFlight;
  for (const int trainer : trainers) senders_.emplace_back(&context->gang, trainer, in_flight);
}

void RolloutRank::ReportData() {
  v1::DataReport report = rollout_->data_report();
  report.set_job_id(context_->start.job_id());
  context_->gang.SendBytes(report.SerializeAsString(), leader_, kDataTag);
  if (!reports_progress()) return;
  for (const std::string& warning : rollout_->data_warnings()) context_->Warn(warning);
}

absl::Status RolloutRank::TakeWeights(int64_t version) {
  const double start = context_->clock.NowSeconds();
  IMAGEDDPO_RETURN_IF_ERROR(weights_.Receive(version, lora_, denoiser_, kPhaseTimeout));
  wait_seconds_ += context_->clock.NowSeconds() - start;
  if (versions_.max_staleness() > 0 && IsAnyPublishedAfter(version)) {
    weights_.Expect(lora_->num_parameters());
  }
  return absl::OkStatus();
}

bool RolloutRank::IsAnyPublishedAfter(int64_t version) const {
  for (int64_t later = version + 1; later <= versions_.num_epochs(); ++later) {
    if (versions_.IsPublished(later)) return true;
  }
  return false;
}

absl::Status RolloutRank::EvaluateShare(int64_t version) {
  const int64_t num_batches = rollout_->num_eval_batches();
  for (int64_t batch = index_; batch < num_batches; batch += num_rollout_) {
    if (context_->stop.requested()) return Cancelled();
    IMAGEDDPO_RETURN_IF_ERROR(rollout_->DataStatus());
    IMAGEDDPO_ASSIGN_OR_RETURN(v1::EvalBatch result, rollout_->Evaluate(batch, version));
    result.set_job_id(context_->start.job_id());
    context_->gang.SendBytes(result.SerializeAsString(), leader_, kEvalTag);
    const int64_t batch_size = context_->start.spec().eval().batch_size();
    ReportProgress("evaluating", version, (batch + 1) * batch_size, rollout_->num_eval_images());
  }
  return absl::OkStatus();
}

absl::Status RolloutRank::SampleShare(int64_t epoch, int64_t version, bool keep_pictures) {
  const auto needed = schedule_.LatentsNeeded(epoch);
  ReportProgress("sampling", epoch, 0, plan_.samples_per_epoch);
  int64_t done = 0;
  for (int64_t m = 0; m < plan_.micro_batches_per_epoch; ++m) {
    if (schedule_.SamplerOf(m, num_rollout_) != index_) continue;
    if (context_->stop.requested()) return Cancelled();
    IMAGEDDPO_RETURN_IF_ERROR(rollout_->DataStatus());
    IMAGEDDPO_ASSIGN_OR_RETURN(TrajectoryBatch batch,
                               rollout_->Sample(epoch, m, version, keep_pictures && m == 0));
    batch.job_id = context_->start.job_id();
    batch.wait_seconds = std::exchange(wait_seconds_, 0);
    const double start = context_->clock.NowSeconds();
    for (size_t trainer = 0; trainer < senders_.size(); ++trainer) {
      const bool is_leader = trainer == 0;
      senders_[trainer].Send(batch, {.latents = needed[trainer][m], .pictures = is_leader},
                             kPhaseTimeout);
    }
    wait_seconds_ += context_->clock.NowSeconds() - start;
    // Assumes that the other rollout ranks have made as much progress as this one.
    done += plan_.device_batch_size * num_rollout_;
    ReportProgress("sampling", epoch, done, plan_.samples_per_epoch);
  }
  return absl::OkStatus();
}

void RolloutRank::Flush() {
  for (auto& sender : senders_) sender.Flush(kPhaseTimeout);
}

void RolloutRank::ReportProgress(const char* stage, int64_t epoch, int64_t done, int64_t total) {
  if (!reports_progress()) return;
  v1::WorkerMessage message;
  auto* progress = message.mutable_progress();
  progress->set_job_id(context_->start.job_id());
  progress->set_stage(stage);
  progress->set_epoch(epoch);
  progress->set_samples_done(std::min(done, total));
  progress->set_samples_total(total);
  context_->report(std::move(message));
}

}  // namespace imageddpo
