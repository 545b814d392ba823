#pragma once

#include <prometheus/registry.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// What /healthz answers.
struct Health {
  bool ok = true;
  std::string reason;  ///< Why it is not ok, or a remark; for people.
};

/// A small HTTP server: GET /metrics (Prometheus text format 0.0.4), GET /healthz (JSON; 200 when
/// ok, else 503). Anything else is 404, other methods 405. Two threads that sleep while nobody
/// asks. Thread-safe.
class HttpExporter {
 public:
  /// Starts to serve.
  /// @param endpoint  TCP; its token_check is asked for each request: 401 where it refuses.
  /// @param health    called on a thread of the server; must be thread-safe and quick.
  /// @return INVALID_ARGUMENT: the address or port is malformed; UNAVAILABLE: the port is in use or
  /// may not be bound, naming `http.port` and the remedy.
  static absl::StatusOr<std::unique_ptr<HttpExporter>> Start(
      const Endpoint& endpoint, std::shared_ptr<prometheus::Registry> registry,
      std::function<Health()> health);

  ~HttpExporter();  ///< Stops serving; waits for requests under way (at most a few seconds).
  HttpExporter(const HttpExporter&) = delete;
  HttpExporter& operator=(const HttpExporter&) = delete;

  /// With the port as bound.
  const Address& address() const;
  int port() const { return address().port; }

 private:
  class Server;
  explicit HttpExporter(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace imageddpo
