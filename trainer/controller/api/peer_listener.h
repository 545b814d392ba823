#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace imageddpo {

/// Which user is on the other end of which connection of a Unix socket. Thread-safe.
class PeerUsers {
 public:
  void Set(int fd, uid_t uid);
  /// @param peer  grpc::ServerContext::peer() of a call over a connection that gRPC was given as a
  /// file descriptor: "fd:12".
  std::optional<uid_t> Find(std::string_view peer) const;

 private:
  mutable absl::Mutex mutex_;
  std::map<int, uid_t> uids_ ABSL_GUARDED_BY(mutex_);
};

/// Listens on a Unix socket in place of gRPC, because gRPC does not tell which user connects: asks
/// the system for each connection (SO_PEERCRED) and hands those of allowed users on. A connection
/// gets a number of file descriptor that was not in use for a long while, so that a call of a
/// connection that has just been closed is not taken for one of the next. Thread-safe.
class PeerListener {
 public:
  struct Options {
    std::string path;  ///< Where to bind the socket.
    /// Whether every user may connect whom the socket's mode lets in, and not only the service's
    /// own user and root.
    bool is_shared = false;
  };
  /// Listens at once, on a thread of its own.
  /// @param peers   must outlive the listener.
  /// @param accept  takes over a connection: non-blocking, and already in `peers`.
  static absl::StatusOr<std::unique_ptr<PeerListener>> Start(const Options& options,
                                                             PeerUsers& peers,
                                                             std::function<void(int fd)> accept);

  ~PeerListener();  ///< Accepts nothing more; connections that were handed on stay.
  PeerListener(const PeerListener&) = delete;
  PeerListener& operator=(const PeerListener&) = delete;

 private:
  PeerListener(int listening_fd, int stop_fd, bool is_shared, PeerUsers& peers,
               std::function<void(int fd)> accept);
  void Run();
  void AcceptOne();
  /// The same connection under a number that was not used lately.
  int Renumbered(int fd);

  const int listening_fd_;
  const int stop_fd_;  // An eventfd.
  const bool is_shared_;
  PeerUsers& peers_;
  const std::function<void(int fd)> accept_;
  int next_fd_ = 0;     // The thread's.
  std::thread thread_;  // Last: uses all others.
};

/// The name of a user; "uid-1001" where it has none.
std::string UserName(uid_t uid);

}  // namespace imageddpo
