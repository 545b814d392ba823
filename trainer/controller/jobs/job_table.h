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
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_record.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Converts Clock::NowSeconds() into the metrics' time type.
JobMetricsTable::TimePoint SteadyTime(double now_seconds);

/// The unfinished jobs, and the only place where a job changes: each change is checked against the
/// transition table, logged, counted, recorded as an event, stored and told to watchers.
///
/// Changes that the store refuses (disk full) are kept in order, and Flush() tries them again;
/// until then the store, and so the API, shows the state before. Thread-compatible: used by the
/// controller's thread.
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
  /// @param held_for  not empty: it is PAUSED instead, for this reason.
  /// @return the record, or why nothing was stored.
  absl::StatusOr<JobRecord*> Add(JobRecord record, const std::vector<std::string>& warnings,
                                 const std::string& held_for = "");

  /// Removes a job, with its events. Invalidates its pointer. @return why nothing was removed:
  /// UNAVAILABLE while changes wait to be stored.
  absl::Status Remove(JobRecord& record);

  /// nullptr: there is no unfinished job with this id. The pointer is valid until DropFinished().
  JobRecord* Find(const std::string& id);
  /// The same for jobs that have ended too, which are read from the store. NOT_FOUND: no such job.
  absl::StatusOr<JobRecord*> FindOrRead(const std::string& id);
  /// In order of submission.
  std::vector<JobRecord*> All();

  /// Changes the state if the transition table allows it. Otherwise the caller has a bug: that is
  /// logged, and nothing changes.
  /// @param waiting_for  of a state without ranks: JobProgress.waiting_for.
  absl::Status Transition(JobRecord& record, v1::JobState to, const std::string& reason,
                          const std::string& waiting_for = "");
  /// Stores the record with one more event, whose number and time are set here.
  void AddEvent(JobRecord& record, v1::JobEvent event);
  /// Stores the record without an event.
  void Save(const JobRecord& record) { Store(record, {}); }
  /// Adds a warning to an unfinished job, unless it has the same one already or has 100 of them.
  /// @param guard  of a guard on learning: its numbers go into the event, and it is counted.
  void AddWarning(JobRecord& record, const std::string& message,
                  const v1::GuardReport* guard = nullptr);
  /// Sets what a job waits for, empty: nothing; no event. Shown at once, also while the store
  /// cannot be written.
  void SetReason(JobRecord& record, const std::string& reason);

  /// Tries again to store what could not be stored. OK: nothing is left.
  absl::Status Flush();
  /// Whether all changes of this job are stored. An error, after one more try: the newest ones are
  /// not, so that nobody should be told that they are done.
  absl::Status CheckStored(const std::string& id);
  /// Forgets jobs that are finished and stored, except those in use. Invalidates their pointers.
  void DropFinished(const std::function<bool(const std::string& id)>& in_use);

  JobStore& store() { return dependencies_.store; }
  const Clock& clock() const { return dependencies_.clock; }
  google::protobuf::Timestamp Now() const;  ///< In whole milliseconds, as it is stored.

 private:
  struct Change {
    JobRecord record;
    std::vector<v1::JobEvent> events;
  };
  /// Notes when a job enters the queue, and counts how long it was there when it gets its ranks.
  void CountQueueWait(int64_t number, v1::JobState to);
  void Store(const JobRecord& record, std::vector<v1::JobEvent> events);
  v1::JobEvent MakeEvent() const;
  void CountStates();

  Dependencies dependencies_;
  std::map<int64_t, std::unique_ptr<JobRecord>> jobs_;  // By number.
  std::map<v1::JobState, int64_t> count_by_state_;      // Of all jobs, finished ones too.
  std::map<int64_t, double> queued_since_s_;            // By number, of jobs in the queue.
  std::deque<Change> unstored_;
  double next_complaint_s_ = 0;
};

}  // namespace imageddpo
