#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_record.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Clock::NowSeconds() as the metrics take it.
JobMetricsTable::TimePoint SteadyTime(double now_seconds);

/// The jobs that are not finished, and the only place where a job changes: each change is checked
/// against the transition table, logged, counted, given its event, stored and told to watchers.
///
/// What the store refuses (full disk) is kept in order and tried again by Flush(); until then the
/// store shows the state before, and so does the API. Thread-compatible: the controller's thread.
class JobTable {
 public:
  struct Dependencies {
    JobStore& store;
    EventHub& hub;
    ServiceMetrics& metrics;
    JobMetricsTable& job_metrics;
    const Clock& clock;
    std::shared_ptr<spdlog::logger> logger;
  };
  explicit JobTable(const Dependencies& dependencies);

  /// Reads the unfinished jobs from the store. Call it once, first.
  absl::Status Load();

  /// Stores a new job (spec, request_id, request_sha256 set) as QUEUED, with its warnings.
  /// @return the record, or why nothing was stored.
  absl::StatusOr<JobRecord*> Add(JobRecord record, const std::vector<std::string>& warnings);

  /// nullptr: no unfinished job has this id. The pointer holds until DropFinished().
  JobRecord* Find(const std::string& id);
  /// In order of submission.
  std::vector<JobRecord*> All();

  /// Does what the transition table allows; a change that it does not is a bug, is logged and not
  /// done.
  absl::Status Transition(JobRecord& record, v1::JobState to, const std::string& reason);
  /// Stores the record with one more event; number and time are set here.
  void AddEvent(JobRecord& record, v1::JobEvent event);
  /// Stores the record as it is; no event.
  void Save(const JobRecord& record) { Store(record, {}); }
  /// A text that the job has already is not added again; nor is any after its end or beyond 100.
  void AddWarning(JobRecord& record, const std::string& message);
  /// Says what a waiting job waits for; no event.
  void SetReason(JobRecord& record, const std::string& reason);

  /// Tries to store what could not be stored. OK: nothing is left.
  absl::Status Flush();
  /// Forgets jobs that are finished and stored, except those in use.
  void DropFinished(const std::function<bool(const std::string& id)>& in_use);

  JobStore& store() { return dependencies_.store; }
  google::protobuf::Timestamp Now() const;  ///< In whole milliseconds, as it is stored.

 private:
  struct Change {
    JobRecord record;
    std::vector<v1::JobEvent> events;
  };
  void Store(const JobRecord& record, std::vector<v1::JobEvent> events);
  v1::JobEvent MakeEvent() const;
  void CountStates();

  Dependencies dependencies_;
  std::map<int64_t, std::unique_ptr<JobRecord>> jobs_;  // By number.
  std::map<v1::JobState, int64_t> count_by_state_;      // Of all jobs, finished ones too.
  std::deque<Change> unstored_;
  double next_complaint_s_ = 0;
};

}  // namespace imageddpo
