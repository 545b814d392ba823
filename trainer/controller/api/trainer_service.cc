#include "trainer/controller/api/trainer_service.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/text.h"
#include "common/comm/valid_texts.h"
#include "trainer/controller/api/watch_reactor.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kMaxCallDuration = absl::Seconds(30);
// gRPC sends the message of a status as a header, with three bytes for each byte that is not
// printable ASCII, and clients accept at most 8 KiB of headers.
constexpr size_t kMaxSentMessageBytes = 6000;

/// The time until the caller's deadline, at most kMaxCallDuration.
absl::Duration TimeoutOf(const grpc::ServerContext& context) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  return std::clamp(absl::FromChrono(left), absl::ZeroDuration(), kMaxCallDuration);
}

/// Runs a call, moves its result into `response` and counts it.
template <typename Response, typename Function>
grpc::Status Answer(const TrainerServiceImpl::Dependencies& dependencies, const char* method,
                    Response* response, Function function) {
  const double start_s = dependencies.clock.NowSeconds();
  absl::StatusOr<Response> result = function();
  dependencies.metrics.RpcFinished(method, result.status().code(),
                                   dependencies.clock.NowSeconds() - start_s);
  if (!result.ok()) return ToGrpcStatus(result.status());
  *response = *std::move(result);
  MakeTextsValid(response);
  return grpc::Status::OK;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  const std::string message = ValidMessage(std::string(status.message()));
  size_t fits = 0;
  for (size_t sent = 0; fits < message.size(); ++fits) {
    const char c = message[fits];
    sent += c >= 0x20 && c < 0x7F && c != '%' ? 1 : 3;
    if (sent > kMaxSentMessageBytes) break;
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Excerpt(message, fits));
}

TrainerServiceImpl::TrainerServiceImpl(const Dependencies& dependencies)
    : dependencies_(dependencies) {}

grpc::Status TrainerServiceImpl::SubmitJob(grpc::ServerContext* context,
                                           const v1::SubmitJobRequest* request, v1::Job* response) {
  return Answer(dependencies_, "SubmitJob", response,
                [&] { return dependencies_.jobs.Submit(*request, TimeoutOf(*context)); });
}

grpc::Status TrainerServiceImpl::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                                        v1::Job* response) {
  return Answer(dependencies_, "GetJob", response,
                [&] { return dependencies_.jobs.Get(request->id()); });
}

grpc::Status TrainerServiceImpl::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                                          v1::ListJobsResponse* response) {
  return Answer(dependencies_, "ListJobs", response,
                [&] { return dependencies_.jobs.List(*request); });
}

grpc::Status TrainerServiceImpl::CancelJob(grpc::ServerContext* context,
                                           const v1::CancelJobRequest* request, v1::Job* response) {
  return Answer(dependencies_, "CancelJob", response,
                [&] { return dependencies_.jobs.Cancel(request->id(), TimeoutOf(*context)); });
}

grpc::ServerWriteReactor<v1::JobEvent>* TrainerServiceImpl::WatchJob(
    grpc::CallbackServerContext*, const v1::WatchJobRequest* request) {
  return WatchReactor::Start(
      {dependencies_.store, dependencies_.hub, dependencies_.metrics, dependencies_.clock},
      *request);
}

}  // namespace imageddpo
