#include "trainer/controller/jobs/job_table.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {
namespace {

constexpr int kMaxWarnings = 100;
constexpr double kComplaintIntervalSeconds = 30;

}  // namespace

JobMetricsTable::TimePoint SteadyTime(double now_seconds) {
  return JobMetricsTable::TimePoint(
      std::chrono::duration_cast<JobMetricsTable::TimePoint::duration>(
          std::chrono::duration<double>(now_seconds)));
}

JobTable::JobTable(const Dependencies& dependencies) : dependencies_(dependencies) {}

google::protobuf::Timestamp JobTable::Now() const {
  return google::protobuf::util::TimeUtil::MillisecondsToTimestamp(
      static_cast<int64_t>(std::floor(dependencies_.clock.UnixSeconds() * 1000)));
}

v1::JobEvent JobTable::MakeEvent() const {
  v1::JobEvent event;
  *event.mutable_time() = Now();
  return event;
}

absl::Status JobTable::Load() {
  IMAGEDDPO_ASSIGN_OR_RETURN(count_by_state_, dependencies_.store.CountByState());
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<JobRecord> records, dependencies_.store.Unfinished());
  for (JobRecord& record : records) {
    const int64_t number = record.number;
    jobs_[number] = std::make_unique<JobRecord>(std::move(record));
  }
  CountStates();
  return absl::OkStatus();
}

void JobTable::CountQueueWait(int64_t number, v1::JobState to) {
  const double now_s = dependencies_.clock.NowSeconds();
  if (to == v1::QUEUED) {
    queued_since_s_[number] = now_s;
    return;
  }
  const auto since = queued_since_s_.find(number);
  if (since == queued_since_s_.end()) return;
  if (to == v1::STARTING) dependencies_.metrics.QueueWaited(now_s - since->second);
  queued_since_s_.erase(since);
}

void JobTable::CountStates() { dependencies_.metrics.SetJobs(count_by_state_); }

absl::StatusOr<JobRecord*> JobTable::Add(JobRecord record, const std::vector<std::string>& warnings,
                                         const std::string& held_for) {
  const v1::JobState state = held_for.empty() ? v1::QUEUED : v1::PAUSED;
  record.job.set_state(state);
  record.job.set_state_reason(held_for);
  record.job.set_resumed_from_epoch(-1);
  *record.job.mutable_create_time() = Now();
  std::vector<v1::JobEvent> events(1, MakeEvent());
  events[0].mutable_state()->set_state(state);
  events[0].mutable_state()->set_reason(held_for);
  for (const std::string& warning : warnings) {
    record.job.add_warnings(warning);
    events.push_back(MakeEvent());
    events.back().mutable_warning()->set_message(warning);
  }
  const double start_s = dependencies_.clock.NowSeconds();
  IMAGEDDPO_RETURN_IF_ERROR(dependencies_.store.Insert(&record, std::move(events)));
  dependencies_.metrics.StoreWritten(dependencies_.clock.NowSeconds() - start_s);

  dependencies_.logger->info("{} '{}' is {}", record.job.id(), record.job.spec().name(),
                             StateName(state));
  for (const std::string& warning : warnings)
    dependencies_.logger->warn("{}: {}", record.job.id(), warning);
  dependencies_.metrics.JobEntered(state);
  ++count_by_state_[state];
  CountQueueWait(record.number, state);
  CountStates();
  std::unique_ptr<JobRecord>& entry = jobs_[record.number];
  entry = std::make_unique<JobRecord>(std::move(record));
  return entry.get();
}

absl::Status JobTable::Remove(JobRecord& record) {
  if (const absl::Status stored = Flush(); !stored.ok()) {
    return absl::UnavailableError(
        absl::StrCat("changes of jobs wait to be stored: ", stored.message(), "; try again later"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(dependencies_.store.Remove(record.number));
  dependencies_.logger->info("{} is deleted", record.job.id());
  --count_by_state_[record.job.state()];
  CountStates();
  dependencies_.hub.EventsStored(record.job.id());  // Who watches it learns that it is gone.
  jobs_.erase(record.number);
  return absl::OkStatus();
}

JobRecord* JobTable::Find(const std::string& id) {
  for (auto& [number, record] : jobs_) {
    if (record->job.id() == id) return record.get();
  }
  return nullptr;
}

absl::StatusOr<JobRecord*> JobTable::FindOrRead(const std::string& id) {
  if (JobRecord* const record = Find(id); record != nullptr) return record;
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord stored, dependencies_.store.Get(id));
  std::unique_ptr<JobRecord>& entry = jobs_[stored.number];
  entry = std::make_unique<JobRecord>(std::move(stored));
  return entry.get();
}

std::vector<JobRecord*> JobTable::All() {
  std::vector<JobRecord*> all;
  for (auto& [number, record] : jobs_) all.push_back(record.get());
  return all;
}

absl::Status JobTable::Transition(JobRecord& record, v1::JobState to, const std::string& reason,
                                  const std::string& waiting_for) {
  v1::Job& job = record.job;
  const v1::JobState from = job.state();
  if (absl::Status status = CheckTransition(from, to); !status.ok()) {
    dependencies_.logger->error("{}: not done: {}", job.id(), std::string(status.message()));
    return status;
  }
  job.set_state(to);
  job.set_state_reason(reason);
  if (to == v1::STARTING && !job.has_start_time()) *job.mutable_start_time() = Now();
  const bool rests = IsFinal(to) || to == v1::PAUSED;
  if (rests) job.mutable_progress()->clear_stage();
  if (IsFinal(to)) job.mutable_progress()->clear_preempted_by();
  if (IsFinal(to)) {
    *job.mutable_end_time() = Now();
  } else {
    job.clear_end_time();
  }
  if (!HoldsRanks(to)) job.mutable_progress()->set_waiting_for(waiting_for);
  const auto level = to == v1::FAILED       ? spdlog::level::err
                     : to == v1::RECOVERING ? spdlog::level::warn
                                            : spdlog::level::info;
  dependencies_.logger->log(level, "{} {} -> {}{}{}", job.id(), StateName(from), StateName(to),
                            reason.empty() ? "" : ": ", reason);

  --count_by_state_[from];
  ++count_by_state_[to];
  CountQueueWait(record.number, to);
  CountStates();
  dependencies_.hub.SetReason(job.id(), "");
  dependencies_.job_metrics.SetRunning(job.id(), HoldsRanks(to));
  if (!HoldsRanks(to)) dependencies_.hub.ClearProgress(job.id());
  if (rests) {
    dependencies_.job_metrics.Ended(job.id(), SteadyTime(dependencies_.clock.NowSeconds()));
  }
  v1::JobEvent event;
  event.mutable_state()->set_state(to);
  event.mutable_state()->set_reason(reason);
  AddEvent(record, std::move(event));
  return absl::OkStatus();
}

void JobTable::AddEvent(JobRecord& record, v1::JobEvent event) {
  *event.mutable_time() = Now();
  event.set_number(++record.last_event);
  Store(record, {std::move(event)});
}

void JobTable::AddWarning(JobRecord& record, const std::string& message,
                          const v1::GuardReport* guard) {
  auto& warnings = *record.job.mutable_warnings();
  if (IsFinal(record.job.state()) || warnings.size() >= kMaxWarnings ||
      std::find(warnings.begin(), warnings.end(), message) != warnings.end())
    return;
  dependencies_.logger->warn("{}: {}", record.job.id(), message);
  warnings.Add(std::string(message));
  const auto metrics = dependencies_.job_metrics.Get(record.job.id(), record.job.spec().name());
  metrics->Warned();
  v1::JobEvent event;
  event.mutable_warning()->set_message(message);
  if (guard != nullptr) {
    metrics->GuardFired(guard->guard());
    v1::GuardEvent& of_guard = *event.mutable_warning()->mutable_guard();
    of_guard.set_guard(guard->guard());
    of_guard.set_action(guard->action());
    of_guard.set_epoch(guard->epoch());
    of_guard.set_value(guard->value());
    of_guard.set_limit(guard->limit());
  }
  AddEvent(record, std::move(event));
}

void JobTable::SetReason(JobRecord& record, const std::string& reason) {
  if (record.job.state_reason() == reason) return;
  record.job.set_state_reason(reason);
  dependencies_.hub.SetReason(record.job.id(), reason);
  dependencies_.logger->info("{} {}", record.job.id(), reason.empty() ? "goes on" : reason);
  Save(record);
}

void JobTable::Store(const JobRecord& record, std::vector<v1::JobEvent> events) {
  unstored_.push_back(Change{record, std::move(events)});
  if (unstored_.size() == 1)
    Flush().IgnoreError();  // Otherwise it waits its turn; Flush() is called again.
}

absl::Status JobTable::Flush() {
  while (!unstored_.empty()) {
    const Change& change = unstored_.front();
    const double start_s = dependencies_.clock.NowSeconds();
    const absl::Status status = dependencies_.store.Update(change.record, change.events);
    dependencies_.metrics.StoreWritten(dependencies_.clock.NowSeconds() - start_s);
    if (!status.ok()) {
      if (const double now_s = dependencies_.clock.NowSeconds(); now_s >= next_complaint_s_) {
        next_complaint_s_ = now_s + kComplaintIntervalSeconds;
        dependencies_.logger->error("{} changes of jobs wait to be stored: {}", unstored_.size(),
                                    std::string(status.message()));
      }
      return status;
    }
    for (const v1::JobEvent& event : change.events) {
      if (event.has_state()) dependencies_.metrics.JobEntered(event.state().state());
    }
    dependencies_.hub.EventsStored(change.record.job.id());
    unstored_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status JobTable::CheckStored(const std::string& id) {
  const absl::Status status = Flush();
  const bool waits = std::any_of(unstored_.begin(), unstored_.end(), [&](const Change& change) {
    return change.record.job.id() == id;
  });
  if (!waits) return absl::OkStatus();
  return Annotate(status,
                  absl::StrCat("it is done but not stored yet, so that a restart of the service "
                               "could undo it (repeat the call until it is confirmed): ",
                               id));
}

void JobTable::DropFinished(const std::function<bool(const std::string& id)>& in_use) {
  if (!unstored_.empty()) return;
  std::erase_if(jobs_, [&](const auto& entry) {
    const v1::Job& job = entry.second->job;
    return IsFinal(job.state()) && !in_use(job.id());
  });
}

}  // namespace imageddpo
