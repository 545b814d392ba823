#include "tests/unit/controller/jobs/supervisor_fixture.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/testing/judged.h"

namespace imageddpo {

SupervisorTest::SupervisorTest() { Restart(); }

void SupervisorTest::Restart(FileSystem* file_system) {
  supervisor_.reset();
  sent_.clear();
  asked_.clear();
  ReopenStore();
  std::vector<int> ranks;
  for (int rank = 1; rank <= kNumWorkers; ++rank) ranks.push_back(rank);
  Supervisor::Options options;
  options.health.min_ranks = 1;
  options.drain_seconds = drain_seconds_;
  options.queue = queue_;
  options.limits = limits_;
  supervisor_ = std::make_unique<Supervisor>(
      options,
      Supervisor::Dependencies{
          file_system != nullptr ? *file_system : disk_, clock_, *table_, *hub_, *metrics_,
          *job_metrics_, logger_,
          [this](int rank, v1::ControllerMessage message) {
            if (message.has_start_job()) {
              tags_[message.start_job().job_id()] = message.start_job().gang().tag();
            }
            sent_.emplace_back(rank, std::move(message));
          },
          [this](const std::string& id, const ResolvedJob&) { asked_.push_back(id); }},
      ranks);
  ASSERT_TRUE(supervisor_->ResumeStored().ok());
  for (const int rank : ranks) Hello(rank);
}

void SupervisorTest::Hello(int rank) {
  v1::WorkerMessage message;
  message.mutable_hello()->set_hostname("host");
  message.mutable_hello()->set_pid(1000 + rank);
  message.mutable_hello()->set_cores(8);
  supervisor_->OnMessage(rank, message);
}

v1::Job SupervisorTest::Submit(const v1::JobSpec& spec, const std::string& request_id) {
  const auto job = supervisor_->jobs().Submit({Judged(spec), request_id, "hash"});
  EXPECT_TRUE(job.ok()) << job.status();
  supervisor_->Tick();
  return job.ok() ? *job : v1::Job();
}

void SupervisorTest::Progress(int rank, const std::string& id, const std::string& stage) {
  v1::WorkerMessage message;
  message.mutable_progress()->set_job_id(id);
  message.mutable_progress()->set_stage(stage);
  supervisor_->OnMessage(rank, message);
}

void SupervisorTest::Epoch(int rank, const std::string& id, int64_t epoch) {
  v1::WorkerMessage message;
  message.mutable_epoch()->set_job_id(id);
  message.mutable_epoch()->mutable_metrics()->set_epoch(epoch);
  message.mutable_epoch()->add_metrics_rows(absl::StrCat("{\"epoch\": ", epoch, "}"));
  message.mutable_epoch()->mutable_metrics()->set_epoch_seconds(2);
  supervisor_->OnMessage(rank, message);
}

void SupervisorTest::Checkpoint(int rank, const std::string& id, int64_t epoch, bool spare) {
  v1::WorkerMessage message;
  message.mutable_checkpoint()->set_job_id(id);
  message.mutable_checkpoint()->set_epoch(epoch);
  message.mutable_checkpoint()->set_lora(absl::StrCat("LoRA ", epoch));
  message.mutable_checkpoint()->set_spare(spare);
  supervisor_->OnMessage(rank, message);
}

void SupervisorTest::Ended(int rank, const std::string& id, const absl::Status& status) {
  v1::WorkerMessage message;
  message.mutable_ended()->set_job_id(id);
  message.mutable_ended()->set_gang_tag(tags_[id]);
  message.mutable_ended()->set_code(static_cast<int>(status.code()));
  message.mutable_ended()->set_message(std::string(status.message()));
  if (const std::optional<std::string> waiting_for = PausesJobFor(status)) {
    message.mutable_ended()->set_pauses_job(true);
    message.mutable_ended()->set_waiting_for(*waiting_for);
  }
  if (const std::optional<int64_t> epochs = RollsBackTo(status)) {
    message.mutable_ended()->set_rolls_back_to(*epochs);
  }
  supervisor_->OnMessage(rank, message);
}

std::vector<v1::ControllerMessage> SupervisorTest::TakeSent(int rank) {
  std::vector<v1::ControllerMessage> messages;
  for (auto& [to, message] : sent_) {
    if (to == rank) messages.push_back(message);
  }
  std::erase_if(sent_, [rank](const auto& entry) { return entry.first == rank; });
  return messages;
}

std::vector<int> SupervisorTest::RanksSent(const std::string& id, bool start) {
  std::vector<int> ranks;
  for (const auto& [rank, message] : sent_) {
    if (start ? message.start_job().job_id() == id : message.stop_job().job_id() == id)
      ranks.push_back(rank);
  }
  return ranks;
}

std::vector<int> SupervisorTest::StartedRanks(const std::string& id) { return RanksSent(id, true); }
std::vector<int> SupervisorTest::StoppedRanks(const std::string& id) {
  return RanksSent(id, false);
}

}  // namespace imageddpo
