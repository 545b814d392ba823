#include "trainer/controller/api/trainer_service.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/comm/valid_texts.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "trainer/controller/api/watch_reactor.h"
#include "trainer/controller/files/job_files.h"

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

/// The end of a WatchJob call that its caller may not make.
class Refusal final : public grpc::ServerWriteReactor<v1::JobEvent> {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

class TrainerServiceImpl final
    : public v1::TrainerService::WithCallbackMethod_WatchJob<v1::TrainerService::Service> {
 public:
  TrainerServiceImpl(const TrainerServiceDependencies& dependencies,
                     std::shared_ptr<const TokenCheck> token_check)
      : dependencies_(dependencies), token_check_(std::move(token_check)) {}

  grpc::Status SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                         v1::Job* response) override {
    return Answer("SubmitJob", *context, response,
                  [&] { return dependencies_.jobs.Submit(*request, TimeoutOf(*context)); });
  }

  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* response) override {
    return Answer("GetJob", *context, response,
                  [&] { return dependencies_.jobs.Get(request->id()); });
  }

  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    return Answer("ListJobs", *context, response,
                  [&] { return dependencies_.jobs.List(*request); });
  }

  grpc::Status CancelJob(grpc::ServerContext* context, const v1::CancelJobRequest* request,
                         v1::Job* response) override {
    return Do("CancelJob", *context, response,
              [id = request->id()](JobService& jobs) { return jobs.Cancel(id); });
  }

  grpc::Status PauseJob(grpc::ServerContext* context, const v1::PauseJobRequest* request,
                        v1::Job* response) override {
    return Do("PauseJob", *context, response,
              [id = request->id(), now = request->immediately()](JobService& jobs) {
                return jobs.Pause(id, now);
              });
  }

  grpc::Status ResumeJob(grpc::ServerContext* context, const v1::ResumeJobRequest* request,
                         v1::Job* response) override {
    std::optional<int64_t> epoch;
    if (request->has_epoch()) epoch = request->epoch();
    return Do("ResumeJob", *context, response,
              [id = request->id(), epoch](JobService& jobs) { return jobs.Resume(id, epoch); });
  }

  grpc::Status CheckpointJob(grpc::ServerContext* context, const v1::CheckpointJobRequest* request,
                             v1::Job* response) override {
    return Do("CheckpointJob", *context, response,
              [id = request->id()](JobService& jobs) { return jobs.Checkpoint(id); });
  }

  grpc::Status BranchJob(grpc::ServerContext* context, const v1::BranchJobRequest* request,
                         v1::Job* response) override {
    return Answer("BranchJob", *context, response,
                  [&] { return dependencies_.jobs.Branch(*request, TimeoutOf(*context)); });
  }

  grpc::Status UpdateJob(grpc::ServerContext* context, const v1::UpdateJobRequest* request,
                         v1::Job* response) override {
    return Do("UpdateJob", *context, response,
              [request = *request](JobService& jobs) { return jobs.Update(request); });
  }

  grpc::Status DeleteJob(grpc::ServerContext* context, const v1::DeleteJobRequest* request,
                         v1::DeleteJobResponse* response) override {
    return Answer("DeleteJob", *context, response, [&] { return Delete(*context, request->id()); });
  }

  grpc::Status ListCheckpoints(grpc::ServerContext* context,
                               const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    return Answer("ListCheckpoints", *context, response,
                  [&] { return imageddpo::ListCheckpoints(dependencies_.store, request->id()); });
  }

  grpc::Status ListArtifacts(grpc::ServerContext* context, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override {
    return Answer("ListArtifacts", *context, response,
                  [&] { return imageddpo::ListArtifacts(dependencies_.store, *request); });
  }

  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override {
    if (const absl::Status allowed = CheckCaller(*context); !allowed.ok()) {
      dependencies_.metrics.RpcFinished("WatchJob", allowed.code(), 0);
      return new Refusal(ToGrpcStatus(allowed));
    }
    return WatchReactor::Start(
        {dependencies_.store, dependencies_.hub, dependencies_.metrics, dependencies_.clock},
        *request);
  }

 private:
  absl::Status CheckCaller(const grpc::ServerContextBase& context) const {
    if (token_check_ == nullptr) return absl::OkStatus();
    const auto header = context.client_metadata().find("authorization");
    if (header == context.client_metadata().end()) return token_check_->Check("");
    return token_check_->Check(BearerToken({header->second.data(), header->second.size()}));
  }

  /// Runs a call, moves its result into `response` and counts it.
  template <typename Response, typename Function>
  grpc::Status Answer(const char* method, const grpc::ServerContext& context, Response* response,
                      Function function) {
    const double start_s = dependencies_.clock.NowSeconds();
    const absl::Status allowed = CheckCaller(context);
    absl::StatusOr<Response> result = allowed.ok() ? function() : absl::StatusOr<Response>(allowed);
    dependencies_.metrics.RpcFinished(method, result.status().code(),
                                      dependencies_.clock.NowSeconds() - start_s);
    if (!result.ok()) return ToGrpcStatus(result.status());
    *response = *std::move(result);
    MakeTextsValid(response);
    return grpc::Status::OK;
  }

  absl::StatusOr<v1::DeleteJobResponse> Delete(const grpc::ServerContext& context,
                                               const std::string& id) {
    IMAGEDDPO_RETURN_IF_ERROR(
        dependencies_.jobs
            .Do([id](JobService& jobs) { return jobs.Delete(id); }, TimeoutOf(context))
            .status());
    return RemoveDeletedFolder(dependencies_.store, id);
  }

  /// Answers a call with what a method of JobService returns.
  grpc::Status Do(const char* method, const grpc::ServerContext& context, v1::Job* response,
                  JobApi::Verb verb) {
    return Answer(method, context, response,
                  [&] { return dependencies_.jobs.Do(std::move(verb), TimeoutOf(context)); });
  }

  const TrainerServiceDependencies dependencies_;
  const std::shared_ptr<const TokenCheck> token_check_;
};

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

std::unique_ptr<grpc::Service> MakeTrainerService(const TrainerServiceDependencies& dependencies,
                                                  std::shared_ptr<const TokenCheck> token_check) {
  return std::make_unique<TrainerServiceImpl>(dependencies, std::move(token_check));
}

}  // namespace imageddpo
