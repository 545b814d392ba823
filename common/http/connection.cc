#include "common/http/connection.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace imageddpo {
namespace {

int MillisecondsTo(HttpConnection::Deadline deadline) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT_MAX));
}

}  // namespace

HttpConnection::HttpConnection(int fd, int stop_fd, SSL_CTX* tls)
    : fd_(fd),
      stop_fd_(stop_fd),
      ssl_(tls == nullptr ? nullptr : SSL_new(tls), &SSL_free),
      is_open_(tls == nullptr) {
  if (ssl_ != nullptr) SSL_set_fd(ssl_.get(), fd_);
}

HttpConnection::~HttpConnection() {
  if (ssl_ != nullptr && is_open_) SSL_shutdown(ssl_.get());
  ERR_clear_error();
  ::close(fd_);
}

HttpConnection::Want HttpConnection::WantOf(int result) const {
  if (ssl_ == nullptr) return errno == EAGAIN || errno == EINTR ? Want::kRead : Want::kNothing;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Want::kRead;
    case SSL_ERROR_WANT_WRITE:
      return Want::kWrite;
    default:
      return Want::kNothing;
  }
}

bool HttpConnection::Await(Want want, Deadline deadline) const {
  if (want == Want::kNothing) return false;
  const short events = want == Want::kRead ? POLLIN : POLLOUT;
  std::array<pollfd, 2> fds = {pollfd{fd_, events, 0}, pollfd{stop_fd_, POLLIN, 0}};
  for (;;) {
    const int left_ms = MillisecondsTo(deadline);
    if (left_ms == 0) return false;
    const int ready = ::poll(fds.data(), fds.size(), left_ms);
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0 && fds[1].revents == 0;
  }
}

bool HttpConnection::Begin(Deadline deadline) {
  while (!is_open_) {
    if (ssl_ == nullptr) return false;  // No memory for it.
    ERR_clear_error();
    const int result = SSL_accept(ssl_.get());
    if (result == 1) {
      is_open_ = true;
    } else if (!Await(WantOf(result), deadline)) {
      return false;
    }
  }
  return true;
}

size_t HttpConnection::Read(char* buffer, size_t size, Deadline deadline) {
  for (;;) {
    ERR_clear_error();
    const int most = static_cast<int>(std::min<size_t>(size, INT_MAX));
    const int count = ssl_ != nullptr ? SSL_read(ssl_.get(), buffer, most)
                                      : static_cast<int>(::recv(fd_, buffer, size, 0));
    if (count > 0) return static_cast<size_t>(count);
    if (count == 0 && ssl_ == nullptr) return 0;
    if (!Await(WantOf(count), deadline)) {
      is_open_ = ssl_ == nullptr;
      return 0;
    }
  }
}

bool HttpConnection::Write(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    ERR_clear_error();
    const size_t most = std::min<size_t>(bytes.size(), 1 << 20);
    const int count = ssl_ != nullptr
                          ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(most))
                          : static_cast<int>(::send(fd_, bytes.data(), most, MSG_NOSIGNAL));
    if (count > 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
      continue;
    }
    Want want = WantOf(count);
    if (ssl_ == nullptr && want == Want::kRead) want = Want::kWrite;
    if (!Await(want, deadline)) {
      is_open_ = ssl_ == nullptr;
      return false;
    }
  }
  return true;
}

void HttpConnection::Linger(Deadline deadline) {
  if (ssl_ != nullptr) SSL_shutdown(ssl_.get());
  is_open_ = ssl_ == nullptr;
  ::shutdown(fd_, SHUT_WR);
  std::array<char, 4096> ignored;
  size_t total = 0;
  while (total < (1 << 20)) {
    const ssize_t count = ::recv(fd_, ignored.data(), ignored.size(), 0);
    if (count == 0) return;
    if (count > 0) {
      total += static_cast<size_t>(count);
    } else if ((errno != EAGAIN && errno != EINTR) || !Await(Want::kRead, deadline)) {
      return;
    }
  }
}

}  // namespace imageddpo
