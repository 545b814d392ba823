#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "trainer/controller/store/data_dir_lock.h"
#include "trainer/controller/store/job_record.h"
#include "trainer/controller/store/sqlite.h"

namespace imageddpo {

/// Jobs and their events on disk: <data_dir>/jobs.db. A change of a job and its events are one
/// transaction, which is on the disk when the call returns. One process owns the data directory.
/// Thread-safe. Errors: RESOURCE_EXHAUSTED (disk full), UNAVAILABLE, DATA_LOSS.
class JobStore {
 public:
  /// Creates the directory and an empty store if they are missing, and migrates an older store.
  /// @return FAILED_PRECONDITION naming the process that owns the directory.
  static absl::StatusOr<std::unique_ptr<JobStore>> Open(const std::string& data_dir);

  /// Stores a new job with its first events, which get the numbers 1, 2, ..., and sets number,
  /// job.id, job.output_dir and last_event. @return ALREADY_EXISTS: its request_id is taken.
  absl::Status Insert(JobRecord* record, std::vector<v1::JobEvent> events);

  /// @param events  numbered already, the last with record.last_event; may be empty.
  absl::Status Update(const JobRecord& record, absl::Span<const v1::JobEvent> events);

  /// Removes a job and its events. Its number is never used again.
  absl::Status Remove(int64_t number);

  absl::StatusOr<JobRecord> Get(const std::string& id) const;  ///< NOT_FOUND: no such job.
  absl::StatusOr<std::optional<JobRecord>> FindByRequestId(const std::string& request_id) const;
  /// Newest first, those with a number below `before`.
  absl::StatusOr<std::vector<JobRecord>> List(int64_t before, int64_t limit) const;
  /// Jobs that are not in a final state, oldest first.
  absl::StatusOr<std::vector<JobRecord>> Unfinished() const;
  absl::StatusOr<std::map<v1::JobState, int64_t>> CountByState() const;

  /// Of each job its owner, by its id.
  absl::StatusOr<std::map<std::string, std::string>> Owners() const;
  absl::StatusOr<std::vector<OwnerUsage>> OwnersUsage() const;
  /// Replaces all of it.
  absl::Status SetOwnersUsage(absl::Span<const OwnerUsage> usage);

  /// Which workers are drained, as Supervisor names them.
  absl::StatusOr<std::set<std::string>> Drains() const;
  /// Replaces all of it.
  absl::Status SetDrains(const std::set<std::string>& drains);

  struct Ended {
    std::string id;
    double end_s = 0;          ///< Seconds since 1970.
    int64_t spare_events = 0;  ///< Stored events without the last.
  };
  /// The jobs in a final state, the one that ended first first.
  absl::StatusOr<std::vector<Ended>> EndedJobs() const;
  /// Removes the events of a job in a final state, but the last, with which a watch ends.
  absl::Status RemoveEvents(const std::string& id);

  /// Writes a consistent copy of the store to a file of its own in data_dir, which the caller
  /// removes; what is left of callers that died goes an hour later, when the store is opened.
  /// @return its path.
  absl::StatusOr<std::string> BackUp();

  struct EventPage {
    std::vector<v1::JobEvent> events;
    bool ended = false;  ///< The job is in a final state and no event follows these.
  };
  /// Events from number `from` on, at most `limit`. NOT_FOUND: no such job.
  absl::StatusOr<EventPage> Events(const std::string& id, int64_t from, int64_t limit) const;

  /// Writes a few bytes to find out whether the next change can be stored.
  absl::Status CheckWritable();

  const std::string& data_dir() const { return data_dir_; }
  std::string JobDir(const std::string& id) const;  ///< <data_dir>/jobs/<id>.
  /// <data_dir>/jobs/.<id>.deleted: where the folder of a deleted job waits for its removal.
  std::string DeletedDir(const std::string& id) const;

  /// <data_dir>/jobs/.<id>.<name>.deleted: the same for one of its folders, as "samples".
  std::string RetiredDir(const std::string& id, const std::string& name) const;

  /// For tests: limits the size of the store in bytes, to simulate a full disk; 0: no limit.
  absl::Status LimitSize(int64_t size_bytes);

 private:
  JobStore(std::string data_dir, DataDirLock lock, std::unique_ptr<SqliteDatabase> database);

  absl::Status WriteJob(const JobRecord& record, bool insert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WriteEvent(int64_t job_number, v1::JobEvent event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<JobRecord>> ReadJobs(SqliteStatement& statement) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLeftSnapshots() const;

  const std::string data_dir_;
  const DataDirLock lock_;
  std::atomic<int64_t> num_backups_ = 0;
  mutable absl::Mutex mutex_;
  const std::unique_ptr<SqliteDatabase> database_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
