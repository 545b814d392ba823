#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "common/io/file.h"
#include "imageddpo/v1/service.grpc.pb.h"

namespace imageddpo {

/// A trainer service that plays back what a test has written, and notes what it is asked. Stop()
/// and Start() are a restart on the same port.
class FakeService : public v1::TrainerService::Service {
 public:
  FakeService() { Start(); }
  ~FakeService() override { Stop(); }

  void Start() {
    {
      absl::MutexLock lock(&mutex_);
      is_stopping_ = false;
    }
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port_),
                             grpc::InsecureServerCredentials(), &port_);
    if (!socket_.empty()) {
      builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    }
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) throw std::runtime_error("the fake service does not start");
  }

  void Stop() {
    if (server_ == nullptr) return;
    {
      absl::MutexLock lock(&mutex_);
      is_stopping_ = true;
    }
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_ = nullptr;
  }

  /// The next Start() listens elsewhere.
  void ForgetPort() { port_ = 0; }
  /// The next Start() listens on this Unix socket too.
  void AddSocket(const std::string& path) { socket_ = path; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  void SetJob(const v1::Job& job) {
    absl::MutexLock lock(&mutex_);
    jobs_[job.id()] = job;
  }
  /// Numbers the event and shows it to those who watch.
  void AddEvent(v1::JobEvent event) {
    absl::MutexLock lock(&mutex_);
    event.set_number(static_cast<int64_t>(events_.size()) + 1);
    events_.push_back(std::move(event));
  }
  std::vector<v1::SubmitJobRequest> submitted() const {
    absl::MutexLock lock(&mutex_);
    return submitted_;
  }
  std::vector<int64_t> watched_from() const {
    absl::MutexLock lock(&mutex_);
    return watched_from_;
  }
  int cancel_count() const {
    absl::MutexLock lock(&mutex_);
    return cancel_count_;
  }
  v1::PauseJobRequest paused() const {
    absl::MutexLock lock(&mutex_);
    return paused_;
  }
  v1::ResumeJobRequest resumed() const {
    absl::MutexLock lock(&mutex_);
    return resumed_;
  }
  v1::ProfileJobRequest profiled() const {
    absl::MutexLock lock(&mutex_);
    return profiled_;
  }
  v1::BranchJobRequest branched() const {
    absl::MutexLock lock(&mutex_);
    return branched_;
  }
  void SetCluster(const v1::Cluster& cluster) {
    absl::MutexLock lock(&mutex_);
    cluster_ = cluster;
  }
  v1::DrainWorkerRequest drained() const {
    absl::MutexLock lock(&mutex_);
    return drained_;
  }
  /// A line of every job's log. @param is_last  those who follow the log come to its end.
  void Log(const std::string& message, bool is_last = false) {
    absl::MutexLock lock(&mutex_);
    v1::LogLine& line = log_.emplace_back();
    line.mutable_time()->set_seconds(1'700'000'000);
    line.set_level("warning");
    line.set_rank(2);
    line.set_message(message);
    log_has_ended_ = is_last;
  }
  std::vector<v1::StreamLogsRequest> logs_asked() const {
    absl::MutexLock lock(&mutex_);
    return logs_asked_;
  }
  /// A file of every job, in place of an older one.
  void SetFile(const std::string& name, const std::string& content) {
    absl::MutexLock lock(&mutex_);
    files_[name] = content;
  }
  /// The next download ends after so many parts of kPartBytes.
  void BreakDownloadAfter(int parts) {
    absl::MutexLock lock(&mutex_);
    parts_before_break_ = parts;
  }
  std::vector<int64_t> downloaded_from() const {
    absl::MutexLock lock(&mutex_);
    return downloaded_from_;
  }
  static constexpr size_t kPartBytes = 100;

  v1::UpdateJobRequest updated() const {
    absl::MutexLock lock(&mutex_);
    return updated_;
  }

 private:
  grpc::Status Find(const std::string& id, v1::Job* job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = jobs_.find(id);
    if (it == jobs_.end())
      return {grpc::StatusCode::NOT_FOUND, "no job " + id + "; see `imageddpo list`"};
    *job = it->second;
    return grpc::Status::OK;
  }

  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                         v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    submitted_.push_back(*request);
    if (request->job().model().path() == "/outside") {
      return {grpc::StatusCode::INVALID_ARGUMENT, "`model.path`: /outside does not exist"};
    }
    if (request->job().model().path() == "/restarting") {
      return {grpc::StatusCode::UNAVAILABLE, "the service is about to restart; try again"};
    }
    return Find("job-000001", job);
  }
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    return Find(request->id(), job);
  }
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request,
                         v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    ++cancel_count_;
    const grpc::Status status = Find(request->id(), job);
    if (status.ok() && job->state() == v1::SUCCEEDED) {
      return {grpc::StatusCode::FAILED_PRECONDITION, "job-000001 has already SUCCEEDED"};
    }
    job->set_state(v1::CANCELLING);
    return status;
  }
  grpc::Status PauseJob(grpc::ServerContext*, const v1::PauseJobRequest* request,
                        v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    paused_ = *request;
    const grpc::Status status = Find(request->id(), job);
    job->set_state(v1::PAUSING);
    return status;
  }
  grpc::Status ResumeJob(grpc::ServerContext*, const v1::ResumeJobRequest* request,
                         v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    resumed_ = *request;
    const grpc::Status status = Find(request->id(), job);
    if (request->epoch() == 3) {
      return {grpc::StatusCode::FAILED_PRECONDITION, "there is no checkpoint of epoch 3"};
    }
    job->set_state(v1::QUEUED);
    return status;
  }
  grpc::Status CheckpointJob(grpc::ServerContext*, const v1::CheckpointJobRequest* request,
                             v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    return Find(request->id(), job);
  }
  grpc::Status ProfileJob(grpc::ServerContext*, const v1::ProfileJobRequest* request,
                          v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    profiled_ = *request;
    return Find(request->id(), job);
  }
  grpc::Status BranchJob(grpc::ServerContext*, const v1::BranchJobRequest* request,
                         v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    branched_ = *request;
    const grpc::Status status = Find(request->id(), job);
    job->set_branched_from(job->id());
    job->set_branched_from_epoch(request->epoch());
    job->set_id("job-000002");
    return status;
  }
  grpc::Status UpdateJob(grpc::ServerContext*, const v1::UpdateJobRequest* request,
                         v1::Job* job) override {
    absl::MutexLock lock(&mutex_);
    updated_ = *request;
    return Find(request->id(), job);
  }
  grpc::Status DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest* request,
                         v1::DeleteJobResponse* response) override {
    absl::MutexLock lock(&mutex_);
    v1::Job job;
    response->set_freed_bytes(1'240'000);
    response->set_num_files(12);
    return Find(request->id(), &job);
  }
  grpc::Status ListCheckpoints(grpc::ServerContext*, const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    absl::MutexLock lock(&mutex_);
    v1::CheckpointFolder& checkpoint = *response->add_checkpoints();
    checkpoint.set_epoch(4);
    checkpoint.set_size_bytes(2000);
    checkpoint.set_path("/data/epoch-000004");
    v1::Job job;
    return Find(request->id(), &job);
  }
  grpc::Status ListArtifacts(grpc::ServerContext*, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (absl::StartsWith(request->page_token(), "profile/")) {
      for (const char* name : {"rank-1.json", "rank-2.json"}) {
        response->add_artifacts()->set_name(request->page_token() + name);
      }
      v1::Job job;
      return Find(request->id(), &job);
    }
    const auto file = files_.upper_bound(request->page_token());
    if (file != files_.end()) {
      v1::Artifact& artifact = *response->add_artifacts();
      artifact.set_name(file->first);
      artifact.set_size_bytes(static_cast<int64_t>(file->second.size()));
      if (std::next(file) != files_.end()) response->set_next_page_token(file->first);
    }
    v1::Job job;
    return Find(request->id(), &job);
  }
  grpc::Status DownloadArtifact(grpc::ServerContext*, const v1::DownloadArtifactRequest* request,
                                grpc::ServerWriter<v1::DownloadArtifactResponse>* writer) override {
    std::string content;
    int parts = 0;  // That are sent before the connection breaks; 0: it does not.
    {
      absl::MutexLock lock(&mutex_);
      const auto file = files_.find(request->name());
      if (file == files_.end()) return {grpc::StatusCode::NOT_FOUND, "no such file"};
      content = file->second;
      downloaded_from_.push_back(request->offset());
      parts = std::exchange(parts_before_break_, 0);
    }
    auto next = static_cast<size_t>(request->offset());
    if (next > content.size()) return {grpc::StatusCode::OUT_OF_RANGE, "the file is shorter"};
    while (true) {
      v1::DownloadArtifactResponse part;
      part.set_offset(static_cast<int64_t>(next));
      part.set_size_bytes(static_cast<int64_t>(content.size()));
      part.set_data(content.substr(next, kPartBytes));
      next += part.data().size();
      if (next == content.size()) part.set_sha256(Sha256Hex(content));
      writer->Write(part);
      if (next == content.size()) return grpc::Status::OK;
      if (--parts == 0) return {grpc::StatusCode::UNAVAILABLE, "the service is ending"};
    }
  }
  grpc::Status GetCluster(grpc::ServerContext*, const v1::GetClusterRequest*,
                          v1::Cluster* response) override {
    absl::MutexLock lock(&mutex_);
    *response = cluster_;
    return grpc::Status::OK;
  }
  grpc::Status DrainWorker(grpc::ServerContext*, const v1::DrainWorkerRequest* request,
                           v1::Cluster* response) override {
    absl::MutexLock lock(&mutex_);
    drained_ = *request;
    *response = cluster_;
    return grpc::Status::OK;
  }
  grpc::Status Whoami(grpc::ServerContext*, const v1::WhoamiRequest*,
                      v1::WhoamiResponse* response) override {
    response->set_owner("alice");
    response->set_role("submitter");
    response->set_known_by("token");
    response->mutable_expire_time()->set_seconds(1'700'000'000);
    response->set_version("0.2.0");
    return grpc::Status::OK;
  }
  grpc::Status StreamLogs(grpc::ServerContext* context, const v1::StreamLogsRequest* request,
                          grpc::ServerWriter<v1::StreamLogsResponse>* writer) override {
    size_t next = request->cursor().empty() ? 0 : std::stoul(request->cursor());
    {
      absl::MutexLock lock(&mutex_);
      logs_asked_.push_back(*request);
    }
    while (!context->IsCancelled()) {
      v1::StreamLogsResponse response;
      {
        absl::MutexLock lock(&mutex_);
        if (is_stopping_) return {grpc::StatusCode::UNAVAILABLE, "the service is ending"};
        if (next < log_.size()) *response.add_lines() = log_[next++];
        if (response.lines().empty() && (log_has_ended_ || !request->follow())) {
          return grpc::Status::OK;
        }
      }
      response.set_cursor(std::to_string(next));
      if (!response.lines().empty()) writer->Write(response);
      if (response.lines().empty()) absl::SleepFor(absl::Milliseconds(10));
    }
    return grpc::Status::CANCELLED;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    absl::MutexLock lock(&mutex_);
    auto it = request->page_token().empty() ? jobs_.begin() : jobs_.find(request->page_token());
    for (; it != jobs_.end() && response->jobs_size() < std::min(3, request->page_size()); ++it) {
      *response->add_jobs() = it->second;
    }
    if (it != jobs_.end()) response->set_next_page_token(it->first);
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::JobEvent>* writer) override {
    auto next = static_cast<size_t>(request->from_event());
    if (!request->stored_only()) {
      absl::MutexLock lock(&mutex_);
      watched_from_.push_back(request->from_event());
    }
    while (!context->IsCancelled()) {
      v1::JobEvent event;
      {
        absl::MutexLock lock(&mutex_);
        if (is_stopping_) return {grpc::StatusCode::UNAVAILABLE, "the service is ending"};
        if (next <= events_.size()) event = events_[next - 1];
      }
      if (event.number() == 0) {
        if (request->stored_only()) return grpc::Status::OK;
        absl::SleepFor(absl::Milliseconds(10));
        continue;
      }
      writer->Write(event);
      ++next;
      if (event.has_state() && event.state().state() >= v1::SUCCEEDED) return grpc::Status::OK;
    }
    return grpc::Status::CANCELLED;
  }

  int port_ = 0;
  std::string socket_;
  std::unique_ptr<grpc::Server> server_;
  mutable absl::Mutex mutex_;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, v1::Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::JobEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::SubmitJobRequest> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> watched_from_ ABSL_GUARDED_BY(mutex_);
  int cancel_count_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::PauseJobRequest paused_ ABSL_GUARDED_BY(mutex_);    // The newest.
  v1::ResumeJobRequest resumed_ ABSL_GUARDED_BY(mutex_);  // The newest.
  v1::ProfileJobRequest profiled_ ABSL_GUARDED_BY(mutex_);
  v1::BranchJobRequest branched_ ABSL_GUARDED_BY(mutex_);
  v1::UpdateJobRequest updated_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> files_ ABSL_GUARDED_BY(mutex_) = {
      {"job.yaml", std::string(600, 'y')}, {"metrics.jsonl", std::string(600, 'm')}};
  v1::Cluster cluster_ ABSL_GUARDED_BY(mutex_);
  v1::DrainWorkerRequest drained_ ABSL_GUARDED_BY(mutex_);  // The newest.
  std::vector<v1::LogLine> log_ ABSL_GUARDED_BY(mutex_);
  bool log_has_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<v1::StreamLogsRequest> logs_asked_ ABSL_GUARDED_BY(mutex_);
  int parts_before_break_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<int64_t> downloaded_from_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
