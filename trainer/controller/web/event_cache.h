#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// The events of epochs and evaluations of the jobs that were asked for last, so that a page that
/// asks again and again has only new events read. Thread-safe; reads the store on the caller's
/// thread, a few events at a time.
class EventCache {
 public:
  /// @param store  must outlive the cache.
  explicit EventCache(const JobStore& store) : store_(store) {}

  /// In their order. NOT_FOUND: there is no such job.
  absl::StatusOr<std::vector<v1::JobEvent>> EventsOf(const std::string& job_id);

 private:
  struct Entry {
    std::vector<v1::JobEvent> events;
    int64_t next_event = 1;
    uint64_t last_use = 0;
  };
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const JobStore& store_;
  absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);  // By job id.
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace imageddpo
