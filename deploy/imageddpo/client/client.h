#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "deploy/imageddpo/client/service_address.h"
#include "imageddpo/v1/service.grpc.pb.h"

namespace imageddpo {

/// The API as functions. Each call has a deadline, but for WatchJob(). Errors carry the API's code
/// and a message for a person; UNAVAILABLE says which address does not answer and how to start a
/// service; CANCELLED: the user interrupted the call. Not thread-safe.
class Client {
 public:
  /// @param environment     value of $IMAGEDDPO_ADDRESS; empty: not set.
  /// @param is_interrupted  asked ten times a second, on another thread; true ends the call.
  Client(AddressOptions options, std::string environment, std::function<bool()> is_interrupted);

  absl::StatusOr<v1::Job> SubmitJob(const v1::SubmitJobRequest& request);
  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(int page_size, const std::string& page_token);
  absl::StatusOr<v1::Job> CancelJob(const std::string& id);

  /// Passes on events from `from_event` on until the service ends the stream, which is OK, or
  /// breaks it.
  absl::Status WatchJob(const std::string& id, int64_t from_event,
                        const std::function<void(const v1::JobEvent&)>& on_event);

  bool is_interrupted() const { return is_interrupted_(); }

 private:
  /// Connects, or connects anew where the address has changed.
  absl::Status Connect();
  template <typename Request, typename Response, typename Method>
  absl::StatusOr<Response> Call(Request request, Method method, absl::Duration timeout);
  absl::Status FromGrpc(const grpc::Status& status) const;

  const AddressOptions options_;
  const std::string environment_;
  const std::function<bool()> is_interrupted_;
  std::string address_;
  std::unique_ptr<v1::TrainerService::Stub> stub_;
};

}  // namespace imageddpo
