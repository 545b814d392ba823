#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// A server's half of TLS 1.2 or later. Its files are looked at every few seconds; connections from
/// then on have a changed certificate, unless it cannot be read: then they keep the one before it.
/// Thread-safe.
class TlsContext {
 public:
  using Context = std::shared_ptr<SSL_CTX>;

  /// @param files  certificate and key; with a ca_file clients need a certificate of it.
  /// @return FAILED_PRECONDITION naming the file that is missing or wrong.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(const TlsFiles& files);

  /// For the next connection.
  Context Get();

 private:
  using Stamps = std::map<std::string, std::pair<int64_t, uint64_t>>;  // Time in ns and inode.

  explicit TlsContext(TlsFiles files) : files_(std::move(files)) {}
  Stamps StampsOfFiles() const;

  const TlsFiles files_;
  absl::Mutex mutex_;
  Context context_ ABSL_GUARDED_BY(mutex_);
  Stamps stamps_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point next_look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
