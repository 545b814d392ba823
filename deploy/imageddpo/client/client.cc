#include "deploy/imageddpo/client/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/base/status.h"
#include "common/comm/valid_texts.h"
#include "common/io/file.h"
#include "deploy/imageddpo/client/grpc_details.h"

namespace imageddpo {
namespace {

constexpr int kPingAfterMs = 30'000;
constexpr int kPingTimeoutMs = 20'000;
constexpr absl::Duration kEventsTimeout = absl::Seconds(60);  // Of a thousand epochs and more.
constexpr absl::Duration kInterruptInterval = absl::Milliseconds(100);

/// What the client knows the service by and, with mutual TLS, proves itself with.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(
    const Endpoint& endpoint) {
  if (endpoint.tls.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  for (const auto& [file, text] :
       {std::pair(&endpoint.tls.ca_file, &options.pem_root_certs),
        std::pair(&endpoint.tls.certificate_file, &options.pem_cert_chain),
        std::pair(&endpoint.tls.key_file, &options.pem_private_key)}) {
    if (file->empty()) continue;
    absl::StatusOr<std::string> read = ReadFile(*file);
    if (!read.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("TLS: ", read.status().message()));
    }
    *text = *std::move(read);
  }
  return grpc::SslCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const Endpoint& endpoint) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                             ChannelCredentialsOf(endpoint));
  grpc::ChannelArguments arguments;
  // The service is on this host or behind a tunnel, never behind a web proxy.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A service that was restarted is found within a second: where nothing listens, an attempt to
  // connect fails at once.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // In spite of its name: how long an attempt may take, which on a busy host is a while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  // A watch may be quiet for hours: a tunnel that has died is noticed within a minute.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingAfterMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(endpoint.address.ToString(), credentials, arguments);
}

// Whether an UNAVAILABLE comes from gRPC's client half and not from the service.
bool IsFromConnection(const std::string& message) {
  for (const char* words : {"failed to connect", "Connection refused", "Socket closed",
                            "Connection reset", "Broken pipe", "DNS resolution", "GOAWAY"}) {
    if (absl::StrContains(message, words)) return true;
  }
  return message.empty();
}

/// Cancels a call once someone wants it to end.
class Interrupter {
 public:
  Interrupter(grpc::ClientContext* context, const std::function<bool()>& is_interrupted)
      : thread_([this, context, &is_interrupted] {
          do {
            if (is_interrupted()) {
              context->TryCancel();
              return;
            }
          } while (!done_.WaitForNotificationWithTimeout(kInterruptInterval));
        }) {}
  ~Interrupter() {
    done_.Notify();
    thread_.join();
  }
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;

 private:
  absl::Notification done_;
  std::thread thread_;
};

}  // namespace

Client::Client(AddressOptions options, AddressOptions environment, std::string contexts_file,
               std::function<bool()> is_interrupted)
    : options_(std::move(options)),
      environment_(std::move(environment)),
      contexts_file_(std::move(contexts_file)),
      is_interrupted_(std::move(is_interrupted)) {}

absl::Status Client::Connect() {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Endpoint endpoint,
                             ResolveAddress(options_, environment_, contexts_file_));
  token_ = endpoint.token;
  std::string address = endpoint.address.ToString();
  if (stub_ == nullptr || address != address_) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(endpoint));
    address_ = std::move(address);
    stub_ = v1::TrainerService::NewStub(channel);
  }
  return absl::OkStatus();
}

void Client::AddToken(grpc::ClientContext* context) const {
  if (!token_.empty()) context->AddMetadata("authorization", absl::StrCat("Bearer ", token_));
}

absl::Status Client::FromGrpc(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  if (is_interrupted_()) return absl::CancelledError("interrupted");
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  if (code == absl::StatusCode::kUnavailable) {
    const std::string& message = status.error_message();
    if (!IsFromConnection(message)) {  // The service says so.
      return WithDetailsOf(status, absl::UnavailableError(message));
    }
    const bool is_refused = absl::StrContains(message, "Connection refused");
    return absl::UnavailableError(absl::StrCat(
        "no service answers at ", address_, " (", is_refused ? "connection refused" : message,
        "). Start one: deploy/imageddpod-run -n 3. One elsewhere: --address HOST:PORT, $",
        kAddressVariable, ", --context or --service-file DATA_DIR/service.json"));
  }
  if (code == absl::StatusCode::kDeadlineExceeded) {
    return absl::DeadlineExceededError(
        absl::StrCat("the service at ", address_,
                     " did not answer in time; is its host overloaded or stopped?"));
  }
  if (code == absl::StatusCode::kUnimplemented) {
    return absl::UnimplementedError(
        absl::StrCat("what answers at ", address_,
                     " does not know this call; is it an imageddpod of this version?"));
  }
  return WithDetailsOf(status, absl::Status(code, status.error_message()));
}

absl::Status Client::Run(google::protobuf::Message& request, absl::Duration timeout,
                         const std::function<grpc::Status(Stub&, grpc::ClientContext*)>& call) {
  MakeTextsValid(&request);  // They may be arguments.
  IMAGEDDPO_RETURN_IF_ERROR(Connect());
  grpc::ClientContext context;
  AddToken(&context);
  if (timeout != absl::InfiniteDuration()) {
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  }
  const Interrupter interrupter(&context, is_interrupted_);
  return FromGrpc(call(*stub_, &context));
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& id) {
  v1::GetJobRequest request;
  request.set_id(id);
  return Call(&Stub::GetJob, request);
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(int page_size,
                                                      const std::string& page_token) {
  v1::ListJobsRequest request;
  request.set_page_size(page_size);
  request.set_page_token(page_token);
  return Call(&Stub::ListJobs, request);
}

absl::StatusOr<std::vector<v1::Artifact>> Client::Artifacts(const std::string& id) {
  v1::ListArtifactsRequest request;
  request.set_id(id);
  std::vector<v1::Artifact> all;
  do {
    IMAGEDDPO_ASSIGN_OR_RETURN(const v1::ListArtifactsResponse page,
                               Call(&Stub::ListArtifacts, request));
    all.insert(all.end(), page.artifacts().begin(), page.artifacts().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<std::vector<v1::JobEvent>> Client::StoredEvents(const std::string& id) {
  v1::WatchJobRequest request;
  request.set_id(id);
  request.set_from_event(1);
  request.set_stored_only(true);
  std::vector<v1::JobEvent> events;
  const auto keep = [&events](v1::JobEvent& event) {
    events.push_back(std::move(event));
    return absl::OkStatus();
  };
  const absl::Status status =
      Read<v1::WatchJobRequest, v1::JobEvent>(&Stub::WatchJob, request, keep, kEventsTimeout);
  if (!status.ok()) return status;
  return events;
}

absl::Status Client::WatchJob(const std::string& id, int64_t from_event,
                              const std::function<void(const v1::JobEvent&)>& on_event) {
  v1::WatchJobRequest request;
  request.set_id(id);
  request.set_from_event(from_event);
  return Read<v1::WatchJobRequest, v1::JobEvent>(&Stub::WatchJob, request,
                                                 [&on_event](v1::JobEvent& event) {
                                                   on_event(event);
                                                   return absl::OkStatus();
                                                 });
}

}  // namespace imageddpo
