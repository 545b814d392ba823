#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// How many bytes the files of each owner's jobs have. Measured when it is asked for, at most once
/// a minute. Blocks on the disk. Thread-safe.
class DiskUse {
 public:
  /// The arguments must outlive the object.
  DiskUse(const JobStore& store, const Clock& clock) : store_(store), clock_(clock) {}

  absl::StatusOr<int64_t> BytesOf(const std::string& owner);

 private:
  absl::Status Measure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const JobStore& store_;
  const Clock& clock_;
  absl::Mutex mutex_;
  std::map<std::string, int64_t> bytes_by_owner_ ABSL_GUARDED_BY(mutex_);
  double next_s_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace imageddpo
