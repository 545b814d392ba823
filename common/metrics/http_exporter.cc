#include "common/metrics/http_exporter.h"

#include <civetweb.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kJsonType[] = "application/json";
constexpr char kTextType[] = "text/plain; charset=utf-8";

/// civetweb 1.15 writes the number of an error where it is told to; from 1.16 on it has room for
/// it.
[[maybe_unused]] void PlaceErrorCode(unsigned** place, unsigned* code) { *place = code; }
[[maybe_unused]] void PlaceErrorCode(unsigned* /*place*/, unsigned* /*code*/) {}

int Reply(mg_connection* connection, int code, const char* type, const char* extra_header,
          std::string_view body) {
  const std::string head =
      absl::StrCat("HTTP/1.1 ", code, " ", mg_get_response_code_text(connection, code),
                   "\r\nContent-Type: ", type, "\r\nContent-Length: ", body.size(),
                   "\r\nCache-Control: no-store\r\nConnection: close\r\n", extra_header, "\r\n");
  mg_write(connection, head.data(), head.size());
  const bool is_head = std::string_view(mg_get_request_info(connection)->request_method) == "HEAD";
  if (!is_head) mg_write(connection, body.data(), body.size());
  return code;
}

}  // namespace

// Owns the CivetWeb context, whose threads call back into this object; so it stays where it is.
class HttpExporter::Server {
 public:
  Server(const Endpoint& endpoint, std::shared_ptr<prometheus::Registry> registry,
         std::function<Health()> health)
      : address_(endpoint.address),
        token_check_(endpoint.token_check),
        registry_(std::move(registry)),
        health_(std::move(health)) {
    mg_init_library(MG_FEATURES_DEFAULT);  // Counts its callers, as mg_exit_library() below.
  }

  ~Server() {
    if (context_ != nullptr) Stop();
    mg_exit_library();
  }

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  absl::Status Start() {
    const std::string address = address_.ToString();
    const std::array<const char*, 13> settings = {"listening_ports",
                                                  address.c_str(),
                                                  "num_threads",
                                                  "2",
                                                  "request_timeout_ms",
                                                  "5000",
                                                  "enable_keep_alive",
                                                  "no",
                                                  "enable_directory_listing",
                                                  "no",
                                                  "allow_sendfile_call",
                                                  "no",
                                                  nullptr};
    mg_callbacks callbacks{};
    callbacks.log_message = &Server::OnLog;
    mg_init_data init{&callbacks, this, const_cast<const char**>(settings.data())};
    std::array<char, 256> text{};
    unsigned code = 0;
    mg_error_data error{};  // By name: civetweb 1.16 has more members than 1.15.
    PlaceErrorCode(&error.code, &code);
    error.text = text.data();
    error.text_buffer_size = text.size();
    context_ = mg_start2(&init, &error);
    if (context_ == nullptr) return StartError(address, text.data());

    mg_server_port bound{};
    if (mg_get_server_ports(context_, 1, &bound) != 1) {
      return absl::InternalError("the HTTP server does not say which port it listens on");
    }
    address_.port = bound.port;
    mg_set_request_handler(context_, "/metrics$", &Server::OnMetrics, this);
    mg_set_request_handler(context_, "/healthz$", &Server::OnHealth, this);
    mg_set_request_handler(context_, "/", &Server::OnOther, this);
    return absl::OkStatus();
  }

  const Address& address() const { return address_; }

 private:
  /// The listening thread looks at its stop flag after a connection, otherwise every two seconds.
  void Stop() {
    std::thread waker([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::array<char, 128> error{};
      mg_connection* const connection = mg_connect_client(
          address_.host.c_str(), address_.port, /*use_ssl=*/0, error.data(), error.size());
      if (connection != nullptr) mg_close_connection(connection);
    });
    mg_stop(context_);
    waker.join();
  }

  absl::Status StartError(const std::string& address, const std::string& text) {
    absl::MutexLock lock(&mutex_);
    const std::string why = absl::StrCat(log_, text);
    if (why.find("in use") != std::string::npos) {
      return absl::UnavailableError(
          absl::StrCat("http: ", address,
                       " is in use by another program (another imageddpod?); end that one, or set "
                       "`http.port` in cluster.yaml to another port (0: any free one)"));
    }
    if (why.find("ermission denied") != std::string::npos) {
      return absl::UnavailableError(absl::StrCat("http: this user may not bind ", address,
                                                 "; set `http.port` to 1024 or above"));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "http: cannot listen on ", address, ": ", why,
        "; `http.address` must be an address of this host and `http.port` from 0 to 65535"));
  }

  static int OnLog(const mg_connection* connection, const char* message) {
    const mg_context* context = connection == nullptr ? nullptr : mg_get_context(connection);
    auto* self = context == nullptr ? nullptr : static_cast<Server*>(mg_get_user_data(context));
    if (self != nullptr) {
      absl::MutexLock lock(&self->mutex_);
      if (self->log_.size() < 1000) absl::StrAppend(&self->log_, message, "; ");
    }
    return 1;  // Handled: nothing goes to stderr.
  }

  absl::Status CheckCaller(const mg_connection* connection) const {
    if (token_check_ == nullptr) return absl::OkStatus();
    const char* header = mg_get_header(connection, "Authorization");
    return token_check_->Check(BearerToken(header == nullptr ? "" : header)).status();
  }

  // Handlers run on the server's threads; no exception may reach its C code.
  template <typename Make>
  int Serve(mg_connection* connection, const Make& make) const {
    const std::string_view method = mg_get_request_info(connection)->request_method;
    if (method != "GET" && method != "HEAD") {
      return Reply(connection, 405, kTextType, "Allow: GET, HEAD\r\n", "only GET is served here\n");
    }
    try {
      const absl::Status allowed = CheckCaller(connection);
      if (!allowed.ok()) {
        return Reply(connection, 401, kTextType, "WWW-Authenticate: Bearer\r\n",
                     ValidMessage(std::string(allowed.message())) + "\n");
      }
      return make();
    } catch (const std::exception& error) {
      return Reply(connection, 500, kTextType, "", ValidMessage(error.what()) + "\n");
    }
  }

  static int OnMetrics(mg_connection* connection, void* server) {
    const auto* self = static_cast<Server*>(server);
    return self->Serve(connection, [&] {
      const std::string text = prometheus::TextSerializer().Serialize(self->registry_->Collect());
      return Reply(connection, 200, kMetricsType, "", text);
    });
  }

  static int OnHealth(mg_connection* connection, void* server) {
    const auto* self = static_cast<Server*>(server);
    return self->Serve(connection, [&] {
      const Health health = self->health_();
      const nlohmann::json body = {{"status", health.ok ? "ok" : "unhealthy"},
                                   {"reason", ValidMessage(health.reason)}};
      const std::string text = body.dump() + "\n";
      return Reply(connection, health.ok ? 200 : 503, kJsonType, "", text);
    });
  }

  static int OnOther(mg_connection* connection, void* server) {
    return static_cast<Server*>(server)->Serve(connection, [&] {
      return Reply(connection, 404, kTextType, "", "not found; there are /metrics and /healthz\n");
    });
  }

  Address address_;
  const std::shared_ptr<const TokenCheck> token_check_;
  const std::shared_ptr<prometheus::Registry> registry_;
  const std::function<Health()> health_;
  mg_context* context_ = nullptr;
  absl::Mutex mutex_;
  std::string log_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<HttpExporter>> HttpExporter::Start(
    const Endpoint& endpoint, std::shared_ptr<prometheus::Registry> registry,
    std::function<Health()> health) {
  const Address& address = endpoint.address;
  if (address.is_unix()) {
    return absl::InvalidArgumentError("http: `http.address` cannot be a Unix socket");
  }
  if (address.port < 0 || address.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("http: `http.port` is ", address.port, "; it must be from 0 to 65535"));
  }
  auto server = std::make_unique<Server>(endpoint, std::move(registry), std::move(health));
  const absl::Status status = server->Start();
  if (!status.ok()) return status;
  return std::unique_ptr<HttpExporter>(new HttpExporter(std::move(server)));
}

HttpExporter::HttpExporter(std::unique_ptr<Server> server) : server_(std::move(server)) {}

HttpExporter::~HttpExporter() = default;

const Address& HttpExporter::address() const { return server_->address(); }

}  // namespace imageddpo
