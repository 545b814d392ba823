#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/access/token_file.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// The tokens of a file, read again as soon as the file has changed, so that a new or revoked token
/// counts from the next call on. Expired tokens are refused. Thread-safe.
class LiveTokens final : public TokenCheck {
 public:
  /// @param now  tests put another clock here.
  explicit LiveTokens(std::string path, std::function<absl::Time()> now = absl::Now);

  /// @return UNAUTHENTICATED: no token, an unknown or an expired one; UNAVAILABLE: the file cannot
  /// be read, so that nobody is let in by an old state of it.
  absl::StatusOr<Caller> Check(std::string_view token) const override;

 private:
  /// What tells a changed file from the one that was read: time in ns, size, inode.
  struct Stamp {
    int64_t time_ns = -1, size_bytes = -1;
    uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };
  Stamp StampOfFile() const;

  const std::string path_;
  const std::function<absl::Time()> now_;
  mutable absl::Mutex mutex_;
  mutable bool is_read_ ABSL_GUARDED_BY(mutex_) = false;
  mutable Stamp stamp_ ABSL_GUARDED_BY(mutex_);
  mutable absl::Status fault_ ABSL_GUARDED_BY(mutex_);  // Of the last reading.
  mutable std::map<std::string, TokenRecord> tokens_ ABSL_GUARDED_BY(mutex_);  // By sha256.
};

}  // namespace imageddpo
