#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/endpoint.h"
#include "common/http/connection.h"
#include "common/http/http_message.h"
#include "common/http/tls_context.h"

namespace imageddpo {

/// What a server answers at a path.
struct HttpRoute {
  /// "/metrics"; with a slash at its end, all paths that begin with it, unless it is "/".
  std::string path;
  /// Called on a thread of the server, by several at once; an exception becomes a 500.
  std::function<HttpResponse(const HttpRequest& request)> handler;
  /// Answered without a token: the page's own files, which have nothing of a job in them.
  bool is_open = false;
  /// It changes something, and so is asked with POST alone, by who has a token and sends
  /// kChangeHeader; others get 401 or 403. Where the server checks no tokens it is always 403.
  bool is_change = false;
};

/// An HTTP/1.1 server for GET and HEAD, and POST without a body for routes that change something: a
/// few threads that sleep while nobody asks, a connection for each request. Unknown paths are 404,
/// other methods 405. Where it listens on a loopback address, a request for another host is 421
/// (DNS rebinding). No client can hold a thread for longer than some seconds. Thread-safe.
class HttpServer {
 public:
  /// Starts to serve.
  /// @param endpoint  TCP; its token_check is asked for each request that is not for an open route:
  ///                  401 where it refuses. With TLS where it has files of it.
  /// @return INVALID_ARGUMENT: the address or port is malformed; UNAVAILABLE: the port is in use or
  /// may not be bound, naming `http.port` and the remedy; FAILED_PRECONDITION: a file of TLS.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Endpoint& endpoint,
                                                           std::vector<HttpRoute> routes);

  ~HttpServer();  ///< Stops serving; waits for handlers under way, not for clients.
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// With the port as bound.
  const Address& address() const { return endpoint_.address; }
  int port() const { return address().port; }
  bool has_tls() const { return tls_ != nullptr; }

 private:
  /// Closes a file descriptor.
  class File {
   public:
    explicit File(int fd) : fd_(fd) {}
    ~File();
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    int get() const { return fd_; }

   private:
    const int fd_;
  };

  HttpServer(const Endpoint& endpoint, std::vector<HttpRoute> routes,
             std::unique_ptr<TlsContext> tls, int listen_fd, int stop_fd);
  void Serve();  ///< What each thread does.
  void Converse(HttpConnection& connection, const std::string& peer) const;
  /// @param method  becomes that of the request, once it is known.
  HttpResponse Answer(const std::string& head, const std::string& peer, std::string* method) const;
  HttpResponse Dispatch(HttpRequest* request) const;
  /// Sets the request's caller. Not OK: that is the answer.
  absl::Status Identify(HttpRequest* request) const;
  const HttpRoute* RouteOf(const std::string& path, bool is_change) const;

  const Endpoint endpoint_;
  const std::vector<HttpRoute> routes_;
  const std::unique_ptr<TlsContext> tls_;  // Null: without TLS.
  const File listen_fd_;
  const File stop_fd_;  // Readable: the threads end.
  std::vector<std::thread> threads_;
};

}  // namespace imageddpo
