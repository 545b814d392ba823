#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "deploy/imageddpo/client/service_address.h"
#include "imageddpo/v1/service.grpc.pb.h"

namespace imageddpo {

/// Between two tries of a stream that broke off, and between two pictures of its progress.
constexpr double kRetrySeconds = 0.5, kRedrawSeconds = 0.1;

/// The API as functions. Each call has a deadline, except Read() and WatchJob(). Errors carry the
/// API's code and a message for a person; UNAVAILABLE says which address does not answer and how to
/// start a service; CANCELLED: the user interrupted the call. Not thread-safe.
class Client {
 public:
  /// @param environment     see AddressFromEnvironment().
  /// @param contexts_file   see ContextsFile().
  /// @param is_interrupted  asked ten times a second, on another thread; true ends the call.
  Client(AddressOptions options, AddressOptions environment, std::string contexts_file,
         std::function<bool()> is_interrupted);

  /// For calls that make a job: the service looks at files first.
  static constexpr absl::Duration kSubmitTimeout = absl::Seconds(60);

  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(int page_size, const std::string& page_token);

  using Stub = v1::TrainerService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);
  /// Any call that has one answer: Call(&Client::Stub::GetJob, request).
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, Request request,
                                absl::Duration timeout = absl::Seconds(20)) {
    Response response;
    IMAGEDDPO_RETURN_IF_ERROR(Run(request, timeout, [&](Stub& stub, grpc::ClientContext* context) {
      return (stub.*method)(context, request, &response);
    }));
    return response;
  }

  template <typename Request, typename Item>
  using StreamMethod = std::unique_ptr<grpc::ClientReader<Item>> (Stub::*)(grpc::ClientContext*,
                                                                           const Request&);
  /// Any call that answers with a stream: passes on what comes until the service ends the stream,
  /// which is OK, or breaks it, or `on_item` returns an error, which is then returned.
  template <typename Request, typename Item>
  absl::Status Read(StreamMethod<Request, Item> method, Request request,
                    const std::function<absl::Status(Item&)>& on_item,
                    absl::Duration timeout = absl::InfiniteDuration()) {
    absl::Status stopped;
    absl::Status status = Run(request, timeout, [&](Stub& stub, grpc::ClientContext* context) {
      const auto reader = (stub.*method)(context, request);
      Item item;
      while (stopped.ok() && reader->Read(&item)) stopped = on_item(item);
      if (!stopped.ok()) context->TryCancel();
      return reader->Finish();
    });
    return stopped.ok() ? status : stopped;
  }

  /// All files of a job, by name.
  absl::StatusOr<std::vector<v1::Artifact>> Artifacts(const std::string& id);

  /// The stored events of a job so far, in their order.
  absl::StatusOr<std::vector<v1::JobEvent>> StoredEvents(const std::string& id);

  /// Passes on events from `from_event` on until the service ends the stream, which is OK, or
  /// breaks it.
  absl::Status WatchJob(const std::string& id, int64_t from_event,
                        const std::function<void(const v1::JobEvent&)>& on_event);

  bool is_interrupted() const { return is_interrupted_(); }

 private:
  /// Connects, or connects anew where the address has changed.
  absl::Status Connect();
  /// Connects, then makes the call, with a deadline unless it is infinite, and until the user
  /// interrupts it.
  absl::Status Run(google::protobuf::Message& request, absl::Duration timeout,
                   const std::function<grpc::Status(Stub&, grpc::ClientContext*)>& call);
  void AddToken(grpc::ClientContext* context) const;
  absl::Status FromGrpc(const grpc::Status& status) const;

  const AddressOptions options_;
  const AddressOptions environment_;
  const std::string contexts_file_;
  const std::function<bool()> is_interrupted_;
  std::string address_;
  std::string token_;
  std::unique_ptr<Stub> stub_;
};

}  // namespace imageddpo
