#include "trainer/controller/api/peer_listener.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/endpoint.h"

namespace imageddpo {
namespace {

constexpr int kBacklog = 128;
constexpr int kFirstFd = 64;       // Below are the files that the service opens at its start.
constexpr int kMostFds = 1 << 16;  // Numbers that connections take in turn.
constexpr auto kPauseWithoutFds = std::chrono::milliseconds(100);

}  // namespace

void PeerUsers::Set(int fd, uid_t uid) {
  const absl::MutexLock lock(&mutex_);
  uids_[fd] = uid;
}

std::optional<uid_t> PeerUsers::Find(std::string_view peer) const {
  constexpr std::string_view kPrefix = "fd:";
  int fd = -1;
  if (!peer.starts_with(kPrefix) ||
      !absl::SimpleAtoi(std::string(peer.substr(kPrefix.size())), &fd)) {
    return std::nullopt;
  }
  const absl::MutexLock lock(&mutex_);
  const auto found = uids_.find(fd);
  if (found == uids_.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<std::unique_ptr<PeerListener>> PeerListener::Start(
    const Options& options, PeerUsers& peers, std::function<void(int fd)> accept) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options.path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(options.path, " is too long for a socket"));
  }
  options.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int listening_fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listening_fd < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  const int stop_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0 ||
      ::bind(listening_fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listening_fd, kBacklog) != 0) {
    const absl::Status error =
        absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", options.path));
    ::close(listening_fd);
    if (stop_fd >= 0) ::close(stop_fd);
    return error;
  }
  return std::unique_ptr<PeerListener>(
      new PeerListener(listening_fd, stop_fd, options.is_shared, peers, std::move(accept)));
}

PeerListener::PeerListener(int listening_fd, int stop_fd, bool is_shared, PeerUsers& peers,
                           std::function<void(int fd)> accept)
    : listening_fd_(listening_fd),
      stop_fd_(stop_fd),
      is_shared_(is_shared),
      peers_(peers),
      accept_(std::move(accept)),
      thread_([this] { Run(); }) {}

PeerListener::~PeerListener() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_fd_, &one, sizeof(one));
  thread_.join();
  ::close(listening_fd_);
  ::close(stop_fd_);
}

void PeerListener::Run() {
  for (;;) {
    std::array<pollfd, 2> waits = {{{.fd = listening_fd_, .events = POLLIN, .revents = 0},
                                    {.fd = stop_fd_, .events = POLLIN, .revents = 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) return;
    if (waits[0].revents != 0) AcceptOne();
  }
}

void PeerListener::AcceptOne() {
  const int accepted = ::accept4(listening_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) {
    // Without a free number the connection stays in the queue; poll() would return at once.
    if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(kPauseWithoutFds);
    return;
  }
  ucred peer{};
  socklen_t size = sizeof(peer);
  const bool is_known = ::getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  const bool is_allowed = is_known && (is_shared_ || peer.uid == 0 || peer.uid == ::geteuid());
  if (!is_allowed) {
    ::close(accepted);
    return;
  }
  const int fd = Renumbered(accepted);
  peers_.Set(fd, peer.uid);
  accept_(fd);
}

int PeerListener::Renumbered(int fd) {
  rlimit limit{};
  const int end = ::getrlimit(RLIMIT_NOFILE, &limit) == 0
                      ? static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kMostFds))
                      : kMostFds;
  if (next_fd_ < kFirstFd || next_fd_ >= end) next_fd_ = kFirstFd;
  const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, next_fd_);
  if (moved < 0) {  // All numbers from there on are taken.
    next_fd_ = kFirstFd;
    return fd;
  }
  next_fd_ = moved + 1;
  ::close(fd);
  return moved;
}

std::string UserName(uid_t uid) {
  std::vector<char> buffer(16'384);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    return entry.pw_name;
  }
  return absl::StrCat("uid-", uid);
}

}  // namespace imageddpo
