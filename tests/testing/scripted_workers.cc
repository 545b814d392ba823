#include "tests/testing/scripted_workers.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr std::chrono::milliseconds kPoll(2);

int64_t SamplesPerEpoch(const v1::JobSpec& spec) {
  return spec.sample().batch_size() * spec.sample().num_batches_per_epoch();
}

}  // namespace

ScriptedWorkers::ScriptedWorkers(LocalControlPlane& plane, const std::vector<int>& ranks,
                                 Script& script)
    : plane_(plane), ranks_(ranks), script_(script) {
  for (size_t i = 0; i < ranks.size(); ++i) {
    threads_.emplace_back([this, rank = ranks[i], i] { Run(rank, static_cast<int>(i)); });
  }
}

ScriptedWorkers::~ScriptedWorkers() {
  stop_.store(true);
  for (std::thread& thread : threads_) thread.join();
}

void ScriptedWorkers::Kill(int rank, const std::string& reason) {
  {
    const absl::MutexLock lock(&mutex_);
    killed_.insert(rank);
  }
  plane_.FailWorker(rank, reason);
}

void ScriptedWorkers::FailJob(int rank, const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  to_fail_[rank] = status;
}

std::vector<v1::StartJob> ScriptedWorkers::Started() const {
  const absl::MutexLock lock(&mutex_);
  return started_;
}

v1::Checkpoint ScriptedWorkers::CheckpointOf(const v1::StartJob& start, int64_t epochs) {
  v1::Checkpoint checkpoint;
  checkpoint.set_job_id(start.job_id());
  checkpoint.set_epoch(epochs);
  checkpoint.set_lora(
      absl::StrCat("LoRA of seed ", start.spec().seed(), " after ", epochs, " epochs"));
  checkpoint.set_optimizer(absl::StrCat("moments after ", epochs));
  checkpoint.set_state(absl::StrCat("{\"epochs_trained\": ", epochs, "}\n"));
  return checkpoint;
}

std::string ScriptedWorkers::MetricsRowOf(const v1::StartJob& start, int64_t epoch) {
  return absl::StrCat("{\"epoch\": ", epoch, ", \"seed\": ", start.spec().seed(),
                      ", \"reward_mean\": ", epoch * 0.5, "}");
}

void ScriptedWorkers::Run(int rank, int index) {
  WorkerChannel& channel = plane_.worker(rank);
  std::optional<Job> job;
  bool hello_sent = false;
  int idle_polls = 0;
  while (!stop_.load()) {
    {
      const absl::MutexLock lock(&mutex_);
      if (killed_.contains(rank)) return;
      const auto failure = to_fail_.find(rank);
      if (failure != to_fail_.end() && job.has_value()) {
        const absl::Status status = failure->second;
        to_fail_.erase(failure);
        End(channel, job->start, status);
        job.reset();
      }
    }
    if (!hello_sent && script_.says_hello.load()) {
      v1::WorkerMessage message;
      const auto i = static_cast<size_t>(index);
      message.mutable_hello()->set_hostname(i < script_.hostnames.size() ? script_.hostnames[i]
                                                                         : "host");
      message.mutable_hello()->set_pid(1000 + rank);
      message.mutable_hello()->set_device("cpu");
      message.mutable_hello()->set_cores(script_.cores);
      channel.Send(std::move(message));
      hello_sent = true;
    }
    if (++idle_polls % 50 == 0) {
      v1::WorkerMessage message;
      message.mutable_heartbeat()->set_lease_number(newest_lease_.load());
      channel.Send(std::move(message));
    }
    if (const auto message = channel.Receive(kPoll); message.has_value()) {
      if (message->has_lease()) {
        newest_lease_.store(message->lease().number());
      } else if (message->has_shutdown()) {
        ++shutdowns_;
        return;
      } else if (message->has_start_job()) {
        const v1::StartJob& start = message->start_job();
        const auto& gang = start.gang();
        job = Job{start, start.has_resume_from() ? start.resume_from().epoch() : 0,
                  gang.world_ranks(gang.trainer(0)) == rank, false};
        const absl::MutexLock lock(&mutex_);
        started_.push_back(start);
      } else if (message->has_stop_job() && job.has_value() && script_.heeds_stop.load()) {
        End(channel, job->start, absl::CancelledError("the job was asked to stop"));
        job.reset();
      }
    }
    if (job.has_value() && Step(channel, *job)) job.reset();
  }
}

bool ScriptedWorkers::Step(WorkerChannel& channel, Job& job) {
  const v1::StartJob& start = job.start;
  if (!job.loaded) {
    job.loaded = true;
    ReportLog(channel, job);
    if (script_.fails_to_load.load()) {
      End(channel, start,
          absl::InvalidArgumentError("unet/config.json: `act_fn` is `mish`; silu is supported"));
      return true;
    }
    if (job.leads && job.epoch == 0) ReportEval(channel, job);
  }
  if (!job.leads) {
    const absl::MutexLock lock(&mutex_);
    if (!finished_tags_.contains(start.gang().tag())) return false;
    End(channel, start, absl::OkStatus());
    return true;
  }
  if (job.epoch < start.spec().num_epochs()) {
    if (job.epoch >= script_.epochs_allowed.load()) return false;
    ReportEpoch(channel, job);
    return false;
  }
  ReportEval(channel, job);
  const absl::MutexLock lock(&mutex_);
  finished_tags_.insert(start.gang().tag());
  End(channel, start, absl::OkStatus());
  return true;
}

void ScriptedWorkers::ReportEpoch(WorkerChannel& channel, Job& job) {
  const v1::StartJob& start = job.start;
  v1::WorkerMessage progress;
  progress.mutable_progress()->set_job_id(start.job_id());
  progress.mutable_progress()->set_stage("sampling");
  progress.mutable_progress()->set_epoch(job.epoch);
  progress.mutable_progress()->set_samples_done(SamplesPerEpoch(start.spec()));
  progress.mutable_progress()->set_samples_total(SamplesPerEpoch(start.spec()));
  channel.Send(std::move(progress));

  v1::WorkerMessage message;
  v1::EpochReport& report = *message.mutable_epoch();
  report.set_job_id(start.job_id());
  v1::EpochMetrics& metrics = *report.mutable_metrics();
  metrics.set_epoch(job.epoch);
  metrics.set_samples_seen((job.epoch + 1) * SamplesPerEpoch(start.spec()));
  report.add_metrics_rows(MetricsRowOf(start, job.epoch));
  report.set_timings_row(absl::StrCat("{\"epoch\": ", job.epoch, ", \"epoch_seconds\": 0.25}"));
  metrics.set_reward_mean(static_cast<double>(job.epoch) * 0.5);
  metrics.set_reward_std(1);
  metrics.set_loss(-0.125);
  metrics.set_epoch_seconds(0.25);
  metrics.set_images_per_second(static_cast<double>(SamplesPerEpoch(start.spec())) / 0.25);
  (*metrics.mutable_stage_seconds())["sample"] = 0.125;
  auto* picture = report.add_pictures();
  picture->set_name("0.png");
  picture->set_data("not really a PNG");
  channel.Send(std::move(message));

  ++job.epoch;
  const int64_t every = start.spec().checkpoint().every_epochs();
  const bool is_due = job.epoch == 1 || job.epoch == start.spec().num_epochs() ||
                      (every > 0 && job.epoch % every == 0);
  if (is_due || script_.sends_every_state.load()) {
    v1::WorkerMessage checkpoint;
    *checkpoint.mutable_checkpoint() = CheckpointOf(start, job.epoch);
    checkpoint.mutable_checkpoint()->set_spare(!is_due);
    channel.Send(std::move(checkpoint));
  }
}

void ScriptedWorkers::ReportLog(WorkerChannel& channel, const Job& job) {
  const int lines = script_.log_lines.load();
  for (int i = 1; i <= lines; ++i) {
    v1::WorkerMessage message;
    v1::LogReport& log = *message.mutable_log();
    log.set_job_id(job.start.job_id());
    log.set_unix_ms(1'700'000'000'000 + i);
    log.set_level(i < lines ? "info" : "warning");
    log.set_message(absl::StrCat("line ", i));
    channel.Send(std::move(message));
  }
}

void ScriptedWorkers::ReportEval(WorkerChannel& channel, const Job& job) {
  v1::WorkerMessage message;
  v1::EvalReport& report = *message.mutable_eval();
  report.set_job_id(job.start.job_id());
  report.set_epoch(job.epoch);
  report.set_num_images(2);
  report.set_reward_mean(static_cast<double>(job.epoch));
  (*report.mutable_parts_mean())["classifier.correct"] = 0.5;
  report.set_rows("{\"id\": \"a\"}\n{\"id\": \"b\"}\n");
  if (job.start.spec().checkpoint().has_best()) {
    report.set_best_value(report.reward_mean());
    report.set_best_lora(CheckpointOf(job.start, job.epoch).lora());
  }
  channel.Send(std::move(message));
}

void ScriptedWorkers::End(WorkerChannel& channel, const v1::StartJob& start,
                          const absl::Status& status) {
  v1::WorkerMessage message;
  message.mutable_ended()->set_job_id(start.job_id());
  message.mutable_ended()->set_gang_tag(start.gang().tag());
  message.mutable_ended()->set_code(static_cast<int>(status.code()));
  message.mutable_ended()->set_message(std::string(status.message()));
  if (const std::optional<std::string> waiting_for = PausesJobFor(status)) {
    message.mutable_ended()->set_pauses_job(true);
    message.mutable_ended()->set_waiting_for(*waiting_for);
  }
  if (const std::optional<int64_t> epochs = RollsBackTo(status)) {
    message.mutable_ended()->set_rolls_back_to(*epochs);
  }
  channel.Send(std::move(message));
}

}  // namespace imageddpo
