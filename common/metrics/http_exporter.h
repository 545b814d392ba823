#pragma once

#include <prometheus/registry.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// What /healthz answers.
struct Health {
  bool ok = true;
  std::string reason;  ///< Why it is not ok, or a word on what is; for a person.
};

/// A small HTTP server: GET /metrics (Prometheus text format 0.0.4), GET /healthz (JSON; 200 when
/// ok, else 503). Anything else is 404, other methods 405. Two threads that sleep while nobody
/// asks. Thread-safe.
class HttpExporter {
 public:
  struct Options {
    std::string address = "127.0.0.1";  ///< An IPv4 or IPv6 address or a host name of this host.
    int port = 9464;                    ///< 0: a free port.
  };

  /// Starts to serve. @param health  called on a thread of the server; must be thread-safe and
  /// quick.
  /// @return INVALID_ARGUMENT: the address or port is malformed; UNAVAILABLE: the port is in use or
  /// may not be bound, naming `http.port` and the remedy.
  static absl::StatusOr<std::unique_ptr<HttpExporter>> Start(
      const Options& options, std::shared_ptr<prometheus::Registry> registry,
      std::function<Health()> health);

  ~HttpExporter();  ///< Stops serving; waits for requests under way (at most a few seconds).
  HttpExporter(const HttpExporter&) = delete;
  HttpExporter& operator=(const HttpExporter&) = delete;

  int port() const;  ///< As bound; never 0.

 private:
  class Server;
  explicit HttpExporter(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace imageddpo
