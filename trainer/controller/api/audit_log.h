#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// Who asked for what, as lines of JSON in <data_dir>/audit.jsonl: every call that changes
/// something, and every call that was refused. At 64 MiB the file becomes audit.jsonl.1 in place of
/// the one before. Thread-safe.
class AuditLog {
 public:
  /// @param clock  must outlive the object. @param max_bytes  when to begin a new file.
  AuditLog(std::string path, const Clock& clock, int64_t max_bytes = int64_t{64} << 20);

  struct Entry {
    Caller caller;  ///< Not known yet where the call was refused for its token: an empty owner.
    bool is_known = false;
    std::string peer;    ///< As gRPC names the other end.
    std::string method;  ///< "CancelJob"
    std::string job;     ///< Its id; empty: of no job.
    absl::Status status;
  };
  /// The line is in the file, though perhaps not on the disk, when the call returns.
  absl::Status Note(const Entry& entry);

 private:
  const std::string path_;
  const Clock& clock_;
  const int64_t max_bytes_;
  absl::Mutex mutex_;
};

}  // namespace imageddpo
