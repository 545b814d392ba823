#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>

namespace imageddpo {

/// A client's connection, with or without TLS. Every wait ends at a deadline, or when the server
/// stops. For one thread.
class HttpConnection {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  /// @param fd       a connected, non-blocking socket; closed by the destructor.
  /// @param stop_fd  readable: the server stops.
  /// @param tls      null: without TLS.
  HttpConnection(int fd, int stop_fd, SSL_CTX* tls);
  ~HttpConnection();  ///< Says goodbye where TLS asks for it; waits for nothing.
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  /// The handshake of TLS; without TLS nothing. @return false: it has failed.
  bool Begin(Deadline deadline);
  /// Waits for some bytes. @return how many; 0: the client has gone, or the time is up.
  size_t Read(char* buffer, size_t size, Deadline deadline);
  /// @return false: the client has gone, or the time is up.
  bool Write(std::string_view bytes, Deadline deadline);
  /// Ends what is sent and reads on for a moment, so that a client that still sends gets the answer
  /// and not an error.
  void Linger(Deadline deadline);

 private:
  enum class Want { kRead, kWrite, kNothing };
  /// What the last call of OpenSSL or of the socket waits for; kNothing: it has failed.
  Want WantOf(int result) const;
  bool Await(Want want, Deadline deadline) const;

  const int fd_;
  const int stop_fd_;
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;  // Null: without TLS.
  bool is_open_;  // The handshake is done, and nothing has failed since.
};

}  // namespace imageddpo
