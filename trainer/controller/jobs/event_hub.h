#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/blocking_queue.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// Tells watchers that a job has news. Runs on a thread of its own, so that publishers never wait
/// for a watcher. Holds what is true of a job now and not stored: the newest progress of each
/// running job, and why a job waits (also while the store's disk is full). Watchers are told about
/// progress at most once per `progress_interval`, and always about the last one; the interval
/// counts on the steady clock. Thread-safe.
class EventHub {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    /// There may be new events in the store or new progress, or the hub was closed. Calls do not
    /// overlap; must not block for long.
    virtual void OnNews() = 0;
  };

  explicit EventHub(absl::Duration progress_interval = absl::Milliseconds(200));
  ~EventHub();
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  /// Notifies the listener about the job for as long as somebody else owns the listener.
  void Listen(const std::string& job_id, std::weak_ptr<Listener> listener);

  void EventsStored(const std::string& job_id);
  void SetProgress(const std::string& job_id, const v1::JobProgress& progress);
  /// The job does not run any more.
  void ClearProgress(const std::string& job_id);

  /// Why the job waits; empty: it does not.
  void SetReason(const std::string& job_id, const std::string& reason);
  /// Why the jobs in the queue wait, by job id. Replaces what was said of them before; what
  /// SetReason() said of a job comes first.
  void SetWaitReasons(std::map<std::string, std::string> reasons);
  std::string Reason(const std::string& job_id) const;

  /// The newest progress that was set.
  std::optional<v1::JobProgress> Progress(const std::string& job_id) const;

  struct Published {
    uint64_t version = 0;  ///< Increases with every publication of any job; 0: none so far.
    v1::JobProgress progress;
  };
  /// The progress that watchers have been told about; nullopt for a job that does not run.
  std::optional<Published> PublishedProgress(const std::string& job_id) const;

  /// The service ends: notifies every listener one last time.
  void Close();
  bool closed() const;

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  struct JobProgress {
    v1::JobProgress newest;
    Published published;
    bool unpublished = false;
    std::optional<SteadyTime> last_published;
  };

  void Dispatch();
  /// How long the thread may sleep: until progress is due, or for ever.
  absl::Duration TimeToNextDue() const;
  std::vector<std::shared_ptr<Listener>> TakeListeners(SteadyTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsDue(const JobProgress& entry, SteadyTime now) const;

  const std::chrono::nanoseconds progress_interval_;
  struct Ring {};
  BlockingQueue<Ring> bell_;  // Wakes the thread. Rung after what it is to see has been written.
  mutable absl::Mutex mutex_;
  std::map<std::string, std::vector<std::weak_ptr<Listener>>> listeners_ ABSL_GUARDED_BY(mutex_);
  uint64_t num_listens_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, JobProgress> progress_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> reasons_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> wait_reasons_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> news_ ABSL_GUARDED_BY(mutex_);  // Jobs whose listeners are to be told.
  uint64_t last_version_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace imageddpo
