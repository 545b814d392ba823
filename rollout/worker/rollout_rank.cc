#include "rollout/worker/rollout_rank.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/comm/frame.h"
#include "common/trajectory/record/tags.h"

namespace imageddpo {
namespace {

constexpr size_t kRecordsInFlight = 4;
/// Enough for a reward that takes as long as sampling does; each keeps its latents and images.
constexpr size_t kBatchesInScoring = 2;

/// Batches that are being scored, at most kBatchesInScoring, while the next ones are sampled. Each
/// is passed on in its turn once it is scored.
template <typename Result>
class ScoringLine {
 public:
  /// @param followers  of the wait for scores, and of what becomes of them.
  /// @param stage      of the wait: "sampling" where it may end in sampling again.
  ScoringLine(const Followers& followers, const char* stage, std::function<void(Result)> pass_on)
      : followers_(followers), stage_(stage), pass_on_(std::move(pass_on)) {}

  absl::Status Add(WhenScored<Result> batch) {
    line_.push_back(std::move(batch));
    return line_.size() > kBatchesInScoring ? PassOnFirst() : absl::OkStatus();
  }
  absl::Status Finish() {
    while (!line_.empty()) IMAGEDDPO_RETURN_IF_ERROR(PassOnFirst());
    return absl::OkStatus();
  }

 private:
  absl::Status PassOnFirst() {
    WhenScored<Result> first = std::move(line_.front());
    line_.pop_front();
    absl::StatusOr<Result> result = [&] {
      const WorkItem item(followers_, stage_, "wait for scores");
      return std::move(first)();
    }();
    IMAGEDDPO_RETURN_IF_ERROR(result.status());
    const SpanLog::Span span(followers_.spans, "send");
    pass_on_(*std::move(result));
    return absl::OkStatus();
  }

  Followers followers_;
  const char* stage_;
  std::function<void(Result)> pass_on_;
  std::deque<WhenScored<Result>> line_;
};

constexpr char kScoring[] = "scoring", kSampling[] = "sampling";

absl::Status Cancelled() { return absl::CancelledError("the job was asked to stop"); }

}  // namespace

RolloutRank::RolloutRank(JobContext* context, const ResolvedJob& job, int index, Rollout* rollout,
                         Denoiser* denoiser, Lora* lora)
    : context_(context),
      plan_(job.plan()),
      index_(index),
      num_rollout_(context->start.gang().rollout_size()),
      leader_(context->start.gang().trainer(0)),
      rollout_(rollout),
      denoiser_(denoiser),
      lora_(lora),
      schedule_(plan_, context->start.spec().seed(),
                context->start.spec().train().num_inner_epochs(),
                context->start.gang().trainer_size()),
      versions_(context->start.spec()),
      timeouts_(GangTimeouts::Of(context->start.spec())),
      weights_(&context->gang, leader_,
               {context->start.gang().rollout().begin(), context->start.gang().rollout().end()}),
      scoring_{.spans = context->spans, .stage = job.asks_a_service() ? nullptr : context->stage},
      scoring_stage_(job.advantage().resamples() ? kSampling : kScoring) {
  const auto& trainers = context->start.gang().trainer();
  // A colocated rank receives only after it has sampled, so ranks that waited for each other's
  // receives here would deadlock. They send without a limit; at most the records of the epochs that
  // sampling runs ahead are under way.
  const bool trains_too =
      std::find(trainers.begin(), trainers.end(), context->gang_rank) != trainers.end();
  const size_t in_flight =
      trains_too ? static_cast<size_t>((context->start.spec().sample().max_staleness() + 1) *
                                       plan_.micro_batches_per_epoch) +
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
  if (versions_.EvaluatesAverage(version)) {
    if (!average_) average_ = lora_->Clone();
    IMAGEDDPO_RETURN_IF_ERROR(weights_.Receive(version, &*average_, denoiser_, timeouts_.phase));
  }
  IMAGEDDPO_RETURN_IF_ERROR(weights_.Receive(version, lora_, denoiser_, timeouts_.phase));
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
  if (!versions_.EvaluatesAverage(version)) return Evaluate(version);
  IMAGEDDPO_RETURN_IF_ERROR(denoiser_->BindLora(*average_).status());
  IMAGEDDPO_RETURN_IF_ERROR(Evaluate(version));
  return denoiser_->BindLora(*lora_).status();
}

absl::Status RolloutRank::Evaluate(int64_t version) {
  ScoringLine<v1::EvalBatch> scoring(scoring_, kScoring, [this](v1::EvalBatch result) {
    result.set_job_id(context_->start.job_id());
    absl::StatusOr<std::string> frame = ToFrame(&result);
    if (!frame.ok()) throw std::length_error(std::string(frame.status().message()));
    context_->gang.SendBytes(*std::move(frame), leader_, kEvalTag);
  });
  const int64_t num_batches = rollout_->num_eval_batches();
  for (int64_t batch = index_; batch < num_batches; batch += num_rollout_) {
    if (context_->stop.requested()) return Cancelled();
    IMAGEDDPO_RETURN_IF_ERROR(rollout_->DataStatus());
    absl::StatusOr<WhenScored<v1::EvalBatch>> sampled = [&] {
      const StageMark::Item item(context_->stage, "evaluating");
      return rollout_->Evaluate(batch, version);
    }();
    IMAGEDDPO_RETURN_IF_ERROR(sampled.status());
    IMAGEDDPO_RETURN_IF_ERROR(scoring.Add(*std::move(sampled)));
    const int64_t batch_size = context_->start.spec().eval().batch_size();
    ReportProgress("evaluating", version, (batch + 1) * batch_size, rollout_->num_eval_samples());
  }
  return scoring.Finish();
}

absl::Status RolloutRank::SampleShare(int64_t epoch, int64_t version, bool keep_pictures) {
  const auto needed = schedule_.LatentsNeeded(epoch);
  ReportProgress("sampling", epoch, 0, plan_.samples_per_epoch);
  int64_t done = 0;
  ScoringLine<TrajectoryBatch> scoring(scoring_, scoring_stage_, [&](TrajectoryBatch batch) {
    batch.job_id = context_->start.job_id();
    batch.wait_seconds = std::exchange(wait_seconds_, 0);
    const double start = context_->clock.NowSeconds();
    for (size_t trainer = 0; trainer < senders_.size(); ++trainer) {
      const bool is_leader = trainer == 0;
      senders_[trainer].Send(batch,
                             {.latents = needed[trainer][batch.micro_batch], .pictures = is_leader},
                             timeouts_.phase);
    }
    wait_seconds_ += context_->clock.NowSeconds() - start;
  });
  std::vector<int64_t> share;
  for (int64_t m = 0; m < plan_.micro_batches_per_epoch; ++m) {
    if (schedule_.SamplerOf(m, num_rollout_) == index_) share.push_back(m);
  }
  for (size_t i = 0; i < share.size(); ++i) {
    const int64_t m = share[i], next = i + 1 < share.size() ? share[i + 1] : -1;
    if (context_->stop.requested()) return Cancelled();
    IMAGEDDPO_RETURN_IF_ERROR(rollout_->DataStatus());
    absl::StatusOr<WhenScored<TrajectoryBatch>> sampled = [&] {
      const WorkItem item(context_->followers(), kSampling, "sample");
      return rollout_->Sample(epoch, m, version, keep_pictures && m == 0, next);
    }();
    IMAGEDDPO_RETURN_IF_ERROR(sampled.status());
    IMAGEDDPO_RETURN_IF_ERROR(scoring.Add(*std::move(sampled)));
    // Assumes that the other rollout ranks have made as much progress as this one.
    done += plan_.device_batch_size * num_rollout_;
    ReportProgress("sampling", epoch, done, plan_.samples_per_epoch);
  }
  return scoring.Finish();
}

void RolloutRank::Flush() {
  for (auto& sender : senders_) sender.Flush(timeouts_.phase);
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
