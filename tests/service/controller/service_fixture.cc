#include "tests/service/controller/service_fixture.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/logging.h"

namespace imageddpo {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);
constexpr auto kPoll = std::chrono::milliseconds(5);

}  // namespace

ServiceTest::ServiceTest(std::vector<int> worker_ranks) : worker_ranks_(std::move(worker_ranks)) {
  dir_.Write("model/model_index.json", "{}");
  dir_.Write("images/metadata.jsonl", "");
  cluster_.data_dir = dir_ / "data";
  cluster_.base_dir = dir_.path();
  cluster_.allowed_roots = {dir_.path()};
  cluster_.grpc.address = "127.0.0.1";
  cluster_.grpc.port = 0;
  cluster_.grpc.insecure = true;
  cluster_.http.port = 0;
  cluster_.http.insecure = true;
  cluster_.pool.drain_seconds = 0;  // Tests hold jobs in the middle of an epoch.
}

ServiceTest::~ServiceTest() { Tear(); }

void ServiceTest::Start() {
  plane_ = std::make_unique<LocalControlPlane>(worker_ranks_);
  workers_ = std::make_unique<ScriptedWorkers>(*plane_, worker_ranks_, script_);
  auto logger = MakeLogger({.level = "warning"});
  ASSERT_TRUE(logger.ok());
  auto service =
      ControllerService::Start(cluster_, {plane_->controller(),
                                          file_system_,
                                          clock_,
                                          *logger,
                                          {"test", "none", "cpu"},
                                          [this](const ResolvedJob&, const std::function<bool()>&) {
                                            return rewards_are_there_.load();
                                          }});
  ASSERT_TRUE(service.ok()) << service.status();
  service_ = *std::move(service);
  stub_ = v1::TrainerService::NewStub(
      grpc::CreateChannel(service_->grpc_address(), grpc::InsecureChannelCredentials()));
  stop_ = ended_ = false;
  exit_reason_.reset();
  thread_ = std::thread([this] {
    const auto reason = service_->Run([this] { return stop_.load(); });
    EXPECT_TRUE(reason.ok()) << reason.status();
    if (reason.ok()) exit_reason_ = *reason;
    ended_ = true;
  });
}

void ServiceTest::Tear() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  stub_.reset();
  service_.reset();
  workers_.reset();
  plane_.reset();
}

Controller::ExitReason ServiceTest::Stop() {
  stop_ = true;
  return WaitForExit();
}

Controller::ExitReason ServiceTest::WaitForExit() {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!ended_ && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(kPoll);
  EXPECT_TRUE(ended_) << "the controller does not end";
  Tear();
  return exit_reason_.value_or(Controller::ExitReason::kStopped);
}

void ServiceTest::Crash() {
  // What a killed process leaves: the directory as it is at this moment.
  const std::string snapshot = dir_ / "snapshot";
  std::error_code error;
  for (int tries = 0; tries == 0 || (error && tries < 100); ++tries) {
    // A file that was renamed while it was copied: once more.
    std::filesystem::remove_all(snapshot);
    std::filesystem::copy(cluster_.data_dir, snapshot, std::filesystem::copy_options::recursive,
                          error);
  }
  ASSERT_FALSE(error) << error.message();
  Tear();
  std::filesystem::remove_all(cluster_.data_dir);
  std::filesystem::rename(snapshot, cluster_.data_dir);
}

v1::JobSpec ServiceTest::JobOf(int64_t epochs) const {
  v1::JobSpec spec;
  spec.set_name("scripted");
  spec.mutable_model()->set_path("model");
  spec.mutable_data()->set_path("images");
  spec.mutable_sample()->set_batch_size(4);
  spec.mutable_sample()->set_num_batches_per_epoch(2);
  spec.mutable_sample()->set_guidance_scale(1);
  spec.mutable_train()->set_batch_size(4);
  v1::RewardSpec& reward = *spec.add_rewards();
  reward.set_type("jpeg");
  reward.set_measure("compressibility");
  spec.set_num_epochs(epochs);
  spec.mutable_checkpoint()->set_every_epochs(2);
  if (epochs > 0) {  // The whole pool.
    spec.mutable_topology()->set_rollout(1);
    spec.mutable_topology()->set_trainer(1);
  }
  return spec;
}

grpc::Status ServiceTest::Submit(const v1::JobSpec& spec, v1::Job* job,
                                 const std::string& request_id) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  v1::SubmitJobRequest request;
  *request.mutable_job() = spec;
  request.set_request_id(request_id);
  return stub_->SubmitJob(&context, request, job);
}

v1::Job ServiceTest::MustSubmit(const v1::JobSpec& spec) {
  v1::Job job;
  const grpc::Status status = Submit(spec, &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job;
}

v1::Job ServiceTest::Get(const std::string& id) {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_id(id);
  v1::Job job;
  const grpc::Status status = stub_->GetJob(&context, request, &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job;
}

v1::Job ServiceTest::WaitFor(const std::string& id, v1::JobState state) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  v1::Job job = Get(id);
  while (job.state() != state && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
    job = Get(id);
  }
  EXPECT_EQ(job.state(), state) << job.state_reason();
  return job;
}

void ServiceTest::WaitForReason(const std::string& id, const std::string& text) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::string reason = Get(id).state_reason();
  while (!absl::StrContains(reason, text) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
    reason = Get(id).state_reason();
  }
  EXPECT_TRUE(absl::StrContains(reason, text)) << reason;
}

v1::Job ServiceTest::WaitForEpoch(const std::string& id, int64_t epoch) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  v1::Job job = Get(id);
  while (job.progress().epoch() < epoch && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
    job = Get(id);
  }
  EXPECT_GE(job.progress().epoch(), epoch) << job.state_reason();
  return job;
}

std::vector<v1::JobEvent> ServiceTest::Watch(const std::string& id, int64_t from_event,
                                             grpc::Status* status) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  v1::WatchJobRequest request;
  request.set_id(id);
  request.set_from_event(from_event);
  const auto reader = stub_->WatchJob(&context, request);
  std::vector<v1::JobEvent> events;
  for (v1::JobEvent event; reader->Read(&event);) events.push_back(event);
  const grpc::Status end = reader->Finish();
  if (status != nullptr) {
    *status = end;
  } else {
    EXPECT_TRUE(end.ok()) << end.error_message();
  }
  return events;
}

std::string ServiceTest::ReadJobFile(const std::string& id, const std::string& name) const {
  return dir_.Read(absl::StrCat("data/jobs/", id, "/", name));
}

std::string ServiceTest::ExpectedMetrics(uint64_t seed, int64_t epochs) {
  v1::StartJob start;
  start.mutable_spec()->set_seed(seed);
  std::string rows;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    absl::StrAppend(&rows, ScriptedWorkers::MetricsRowOf(start, epoch), "\n");
  }
  return rows;
}

std::vector<int64_t> ServiceTest::Numbers(const std::vector<v1::JobEvent>& events) {
  std::vector<int64_t> numbers;
  for (const v1::JobEvent& event : events) {
    if (!event.has_progress()) numbers.push_back(event.number());
  }
  return numbers;
}

std::vector<v1::JobState> ServiceTest::States(const std::vector<v1::JobEvent>& events) {
  std::vector<v1::JobState> states;
  for (const v1::JobEvent& event : events) {
    if (event.has_state()) states.push_back(event.state().state());
  }
  return states;
}

}  // namespace imageddpo
