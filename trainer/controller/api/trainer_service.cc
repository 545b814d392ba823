#include "trainer/controller/api/trainer_service.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/comm/valid_texts.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "trainer/controller/api/watch_reactor.h"
#include "trainer/controller/files/job_files.h"
#include "trainer/controller/streams/downloads.h"
#include "trainer/controller/streams/file_thread.h"
#include "trainer/controller/streams/grpc_status.h"
#include "trainer/controller/streams/log_streams.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kMaxCallDuration = absl::Seconds(30);

/// The time until the caller's deadline, at most kMaxCallDuration.
absl::Duration TimeoutOf(const grpc::ServerContext& context) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  return std::clamp(absl::FromChrono(left), absl::ZeroDuration(), kMaxCallDuration);
}

/// The end of a call with a stream that its caller may not make.
template <typename Item>
class Refusal final : public grpc::ServerWriteReactor<Item> {
 public:
  explicit Refusal(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

/// Streams are served by callbacks.
using ServiceBase = v1::TrainerService::WithCallbackMethod_StreamLogs<
    v1::TrainerService::WithCallbackMethod_DownloadArtifact<
        v1::TrainerService::WithCallbackMethod_WatchJob<v1::TrainerService::Service>>>;

class TrainerServiceImpl final : public ServiceBase {
 public:
  explicit TrainerServiceImpl(const TrainerServiceDependencies& dependencies)
      : dependencies_(dependencies),
        downloads_(dependencies.store, file_thread_, dependencies.metrics, dependencies.clock),
        log_streams_(dependencies.store, dependencies.hub, file_thread_, dependencies.metrics,
                     dependencies.clock) {}

  grpc::Status SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                         v1::Job* response) override {
    return Answer("SubmitJob", *context, *request, response, [&](const Caller& caller) {
      return dependencies_.jobs.Submit(*request, caller, TimeoutOf(*context));
    });
  }

  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* response) override {
    return Answer("GetJob", *context, *request, response,
                  [&](const Caller&) { return dependencies_.jobs.Get(request->id()); });
  }

  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    return Answer("ListJobs", *context, *request, response,
                  [&](const Caller&) { return dependencies_.jobs.List(*request); });
  }

  grpc::Status CancelJob(grpc::ServerContext* context, const v1::CancelJobRequest* request,
                         v1::Job* response) override {
    return Do("CancelJob", *context, *request, response,
              [id = request->id()](JobService& jobs) { return jobs.Cancel(id); });
  }

  grpc::Status PauseJob(grpc::ServerContext* context, const v1::PauseJobRequest* request,
                        v1::Job* response) override {
    return Do("PauseJob", *context, *request, response,
              [id = request->id(), now = request->immediately()](JobService& jobs) {
                return jobs.Pause(id, now);
              });
  }

  grpc::Status ResumeJob(grpc::ServerContext* context, const v1::ResumeJobRequest* request,
                         v1::Job* response) override {
    std::optional<int64_t> epoch;
    if (request->has_epoch()) epoch = request->epoch();
    return Do("ResumeJob", *context, *request, response,
              [id = request->id(), epoch](JobService& jobs) { return jobs.Resume(id, epoch); });
  }

  grpc::Status CheckpointJob(grpc::ServerContext* context, const v1::CheckpointJobRequest* request,
                             v1::Job* response) override {
    return Do("CheckpointJob", *context, *request, response,
              [id = request->id()](JobService& jobs) { return jobs.Checkpoint(id); });
  }

  grpc::Status ProfileJob(grpc::ServerContext* context, const v1::ProfileJobRequest* request,
                          v1::Job* response) override {
    return Do("ProfileJob", *context, *request, response,
              [id = request->id(), num_epochs = request->num_epochs()](JobService& jobs) {
                return jobs.Profile(id, num_epochs);
              });
  }

  grpc::Status BranchJob(grpc::ServerContext* context, const v1::BranchJobRequest* request,
                         v1::Job* response) override {
    return Answer("BranchJob", *context, *request, response, [&](const Caller& caller) {
      return dependencies_.jobs.Branch(*request, caller, TimeoutOf(*context));
    });
  }

  grpc::Status UpdateJob(grpc::ServerContext* context, const v1::UpdateJobRequest* request,
                         v1::Job* response) override {
    return Do("UpdateJob", *context, *request, response,
              [request = *request](JobService& jobs) { return jobs.Update(request); });
  }

  grpc::Status DeleteJob(grpc::ServerContext* context, const v1::DeleteJobRequest* request,
                         v1::DeleteJobResponse* response) override {
    return Answer("DeleteJob", *context, *request, response,
                  [&](const Caller&) { return Delete(*context, request->id()); });
  }

  grpc::Status ListCheckpoints(grpc::ServerContext* context,
                               const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    return Answer("ListCheckpoints", *context, *request, response, [&](const Caller&) {
      return imageddpo::ListCheckpoints(dependencies_.store, request->id());
    });
  }

  grpc::Status ListArtifacts(grpc::ServerContext* context, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override {
    return Answer("ListArtifacts", *context, *request, response, [&](const Caller&) {
      return imageddpo::ListArtifacts(dependencies_.store, *request);
    });
  }

  grpc::Status PlanRetention(grpc::ServerContext* context, const v1::PlanRetentionRequest* request,
                             v1::PlanRetentionResponse* response) override {
    return Answer("PlanRetention", *context, *request, response,
                  [&](const Caller&) -> absl::StatusOr<v1::PlanRetentionResponse> {
                    IMAGEDDPO_ASSIGN_OR_RETURN(
                        std::vector<v1::Removal> removals,
                        imageddpo::PlanRetention(dependencies_.store, dependencies_.retention,
                                                 dependencies_.clock.UnixSeconds()));
                    v1::PlanRetentionResponse plan;
                    for (v1::Removal& removal : removals) *plan.add_removals() = std::move(removal);
                    return plan;
                  });
  }

  grpc::Status BackUpStore(grpc::ServerContext* context, const v1::BackUpStoreRequest* request,
                           v1::BackUpStoreResponse* response) override {
    return Answer("BackUpStore", *context, *request, response,
                  [&](const Caller&) -> absl::StatusOr<v1::BackUpStoreResponse> {
                    v1::BackUpStoreResponse copy;
                    IMAGEDDPO_ASSIGN_OR_RETURN(*copy.mutable_path(), dependencies_.store.BackUp());
                    return copy;
                  });
  }

  grpc::Status GetCluster(grpc::ServerContext* context, const v1::GetClusterRequest* request,
                          v1::Cluster* response) override {
    return Answer("GetCluster", *context, *request, response, [&](const Caller&) {
      return WithVersion(dependencies_.jobs.GetCluster(TimeoutOf(*context)));
    });
  }

  grpc::Status DrainWorker(grpc::ServerContext* context, const v1::DrainWorkerRequest* request,
                           v1::Cluster* response) override {
    return Answer("DrainWorker", *context, *request, response, [&](const Caller&) {
      return WithVersion(dependencies_.jobs.Drain(*request, TimeoutOf(*context)));
    });
  }

  grpc::Status Whoami(grpc::ServerContext* context, const v1::WhoamiRequest* request,
                      v1::WhoamiResponse* response) override {
    return Answer("Whoami", *context, *request, response, [&](const Caller& caller) {
      return absl::StatusOr<v1::WhoamiResponse>(Describe(caller));
    });
  }

  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override {
    return Stream<v1::JobEvent>("WatchJob", *context, *request, [&](const Caller&) {
      return WatchReactor::Start(
          {dependencies_.store, dependencies_.hub, dependencies_.metrics, dependencies_.clock},
          *request);
    });
  }

  grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* DownloadArtifact(
      grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) override {
    return Stream<v1::DownloadArtifactResponse>(
        "DownloadArtifact", *context, *request,
        [&](const Caller& caller) { return downloads_.Start(caller.owner, *request); });
  }

  grpc::ServerWriteReactor<v1::StreamLogsResponse>* StreamLogs(
      grpc::CallbackServerContext* context, const v1::StreamLogsRequest* request) override {
    return Stream<v1::StreamLogsResponse>(
        "StreamLogs", *context, *request,
        [&](const Caller& caller) { return log_streams_.Start(caller.owner, *request); });
  }

 private:
  /// @param job_id  of the request; empty: it is about no job.
  absl::StatusOr<Caller> Admit(const char* method, const grpc::ServerContextBase& context,
                               const std::string& job_id) const {
    return dependencies_.access.Admit(
        context, method, job_id, [&]() -> absl::StatusOr<std::string> {
          IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Job job, dependencies_.jobs.Get(job_id));
          return job.owner();
        });
  }

  /// Runs a call where its caller may make it, moves its result into `response` and counts it. The
  /// job that the call is about is the request's field `id`.
  template <typename Request, typename Response, typename Function>
  grpc::Status Answer(const char* method, const grpc::ServerContext& context,
                      const Request& request, Response* response, Function function) {
    const double start_s = dependencies_.clock.NowSeconds();
    std::string job_id;
    if constexpr (requires { request.id(); }) job_id = request.id();
    const absl::StatusOr<Caller> caller = Admit(method, context, job_id);
    absl::StatusOr<Response> result =
        caller.ok() ? function(*caller) : absl::StatusOr<Response>(caller.status());
    if (caller.ok() && absl::IsPermissionDenied(result.status())) {
      dependencies_.access.NoteRefused(context, method, job_id, *caller, result.status());
    }
    dependencies_.metrics.RpcFinished(method, result.status().code(),
                                      dependencies_.clock.NowSeconds() - start_s);
    if (!result.ok()) return ToGrpcStatus(result.status());
    *response = *std::move(result);
    MakeTextsValid(response);
    return grpc::Status::OK;
  }

  /// Starts a call that answers with a stream where its caller may make it.
  template <typename Item, typename Request, typename Function>
  grpc::ServerWriteReactor<Item>* Stream(const char* method, const grpc::ServerContextBase& context,
                                         const Request& request, Function start) {
    const absl::StatusOr<Caller> caller = Admit(method, context, request.id());
    if (caller.ok()) return start(*caller);
    dependencies_.metrics.RpcFinished(method, caller.status().code(), 0);
    return new Refusal<Item>(ToGrpcStatus(caller.status()));
  }

  absl::StatusOr<v1::Cluster> WithVersion(absl::StatusOr<v1::Cluster> cluster) const {
    if (cluster.ok()) cluster->set_version(dependencies_.version);
    return cluster;
  }

  v1::WhoamiResponse Describe(const Caller& caller) const {
    v1::WhoamiResponse described;
    described.set_owner(caller.owner);
    described.set_role(RoleName(caller.role));
    described.set_known_by(dependencies_.access.known_by());
    if (caller.expire_time != absl::InfiniteFuture()) {
      described.mutable_expire_time()->set_seconds(absl::ToUnixSeconds(caller.expire_time));
    }
    described.set_version(dependencies_.version);
    return described;
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
  template <typename Request>
  grpc::Status Do(const char* method, const grpc::ServerContext& context, const Request& request,
                  v1::Job* response, JobApi::Verb verb) {
    return Answer(method, context, request, response, [&](const Caller&) {
      return dependencies_.jobs.Do(std::move(verb), TimeoutOf(context));
    });
  }

  const TrainerServiceDependencies dependencies_;
  FileThread file_thread_;
  Downloads downloads_;
  LogStreams log_streams_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTrainerService(const TrainerServiceDependencies& dependencies) {
  return std::make_unique<TrainerServiceImpl>(dependencies);
}

}  // namespace imageddpo
