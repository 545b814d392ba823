// Submitting, listing and following jobs over gRPC.

#include <grpcpp/generic/generic_stub.h>

#include <filesystem>
#include <set>

#include "common/base/text.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class JobsTest : public ServiceTest {
 protected:
  void SetUp() override { Start(); }

  grpc::Status List(int page_size, const std::string& token, v1::ListJobsResponse* response) {
    grpc::ClientContext context;
    v1::ListJobsRequest request;
    request.set_page_size(page_size);
    request.set_page_token(token);
    return stub().ListJobs(&context, request, response);
  }
};

TEST_F(JobsTest, AJobRunsToItsEndAndLeavesItsFiles) {
  v1::JobSpec spec = JobOf(5);
  spec.set_seed(7);
  const v1::Job submitted = MustSubmit(spec);
  EXPECT_EQ(submitted.id(), "job-000001");
  EXPECT_EQ(submitted.state(), v1::QUEUED);
  EXPECT_EQ(submitted.spec().train().learning_rate(), 3e-4);   // Defaults are filled in.
  EXPECT_EQ(submitted.spec().model().path(), dir_ / "model");  // Paths are absolute.
  EXPECT_EQ(submitted.spec().device().num_threads(), 8);       // 1 rollout, 1 trainer: in turn.
  EXPECT_EQ(submitted.resumed_from_epoch(), -1);

  const v1::Job job = WaitFor(submitted.id(), v1::SUCCEEDED);
  EXPECT_EQ(job.topology(), "rollout 1, trainer 1");
  EXPECT_EQ(job.resume_count(), 0);
  EXPECT_EQ(job.progress().epoch(), 5);
  EXPECT_EQ(job.progress().num_epochs(), 5);
  EXPECT_EQ(job.progress().samples_seen(), 40);
  EXPECT_EQ(job.progress().newest_epoch().images_per_second(), 32);  // 8 samples in 0.25 s.
  EXPECT_EQ(job.progress().seconds_left(), 0);
  EXPECT_TRUE(job.has_start_time());
  EXPECT_TRUE(job.has_end_time());
  EXPECT_THAT(job.warnings(), IsEmpty());
  EXPECT_EQ(job.output_dir(), dir_ / "data/jobs/job-000001");
  EXPECT_EQ(job.lora_path(),
            job.output_dir() + "/checkpoints/epoch-000005/pytorch_lora_weights.safetensors");

  EXPECT_EQ(ReadJobFile(job.id(), "metrics.jsonl"), ExpectedMetrics(7, 5));
  EXPECT_THAT(ReadJobFile(job.id(), "timings.jsonl"), HasSubstr("\"epoch\": 4"));
  EXPECT_THAT(ReadJobFile(job.id(), "job.yaml"), HasSubstr("num_epochs: 5"));
  EXPECT_EQ(ReadJobFile(job.id(), "samples/epoch-000004/0.png"), "not really a PNG");
  EXPECT_EQ(ReadJobFile(job.id(), "eval/epoch-000000.jsonl"), "{\"id\": \"a\"}\n{\"id\": \"b\"}\n");
  EXPECT_EQ(ReadJobFile(job.id(), "checkpoints/epoch-000005/pytorch_lora_weights.safetensors"),
            "LoRA of seed 7 after 5 epochs");
  // every_epochs: 2, keep: 3, the first and the last besides: 1, 2, 4, 5 were saved.
  EXPECT_FALSE(std::filesystem::exists(job.output_dir() + "/checkpoints/epoch-000001"));
  EXPECT_TRUE(std::filesystem::exists(job.output_dir() + "/checkpoints/epoch-000002/MANIFEST"));
}

TEST_F(JobsTest, EveryRankOfTheGangIsStartedWithTheSameMessage) {
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  const std::vector<v1::StartJob> started = workers_->Started();
  ASSERT_EQ(started.size(), 2u);
  EXPECT_EQ(started[0].SerializeAsString(), started[1].SerializeAsString());
  EXPECT_THAT(started[0].gang().world_ranks(), ElementsAre(1, 2));
  EXPECT_THAT(started[0].gang().rollout(), ElementsAre(0));
  EXPECT_THAT(started[0].gang().trainer(), ElementsAre(1));
  EXPECT_FALSE(started[0].has_resume_from());
}

TEST_F(JobsTest, JobsThatDoNotFitTogetherRunInOrderOfSubmission) {
  script_.epochs_allowed = 1;
  const v1::Job first = MustSubmit(JobOf(2));
  const v1::Job second = MustSubmit(JobOf(2));
  const v1::Job third = MustSubmit(JobOf(2));
  WaitForEpoch(first.id(), 1);
  WaitForReason(second.id(), "waits for 2 free workers: 0 of 2 are free");
  WaitForReason(third.id(), "waits behind job-000002");
  script_.epochs_allowed = 100;
  const v1::Job last = WaitFor(third.id(), v1::SUCCEEDED);
  EXPECT_EQ(Get(second.id()).state(), v1::SUCCEEDED);
  EXPECT_GE(last.start_time().seconds(), Get(first.id()).end_time().seconds());
}

TEST_F(JobsTest, SmallJobsRunAtOnceOnDisjointGangs) {
  script_.epochs_allowed = 1;
  v1::JobSpec spec = JobOf(2);
  spec.clear_topology();
  spec.mutable_topology()->set_colocated(1);
  const v1::Job first = MustSubmit(spec);
  const v1::Job second = MustSubmit(spec);
  WaitForEpoch(first.id(), 1);
  WaitForEpoch(second.id(), 1);
  EXPECT_EQ(Get(first.id()).state(), v1::RUNNING);
  EXPECT_EQ(Get(second.id()).state(), v1::RUNNING);
  std::set<int> ranks;
  for (const v1::StartJob& start : workers_->Started()) ranks.insert(start.gang().world_ranks(0));
  EXPECT_THAT(ranks, ElementsAre(1, 2));
  script_.epochs_allowed = 100;
  WaitFor(first.id(), v1::SUCCEEDED);
  WaitFor(second.id(), v1::SUCCEEDED);
}

TEST_F(JobsTest, WhatDoesNotFitThePoolIsRefused) {
  v1::JobSpec spec = JobOf(1);
  spec.clear_topology();
  spec.mutable_topology()->set_colocated(3);
  spec.mutable_train()->set_gradient_accumulation_steps(2);
  spec.mutable_device()->set_device_batch_size(1);
  v1::Job job;
  const grpc::Status status = Submit(spec, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("the pool has 2"));
  v1::ListJobsResponse response;
  ASSERT_TRUE(List(0, "", &response).ok());
  EXPECT_THAT(response.jobs(), IsEmpty());
}

TEST_F(JobsTest, BadJobsAreRefusedAndNotStored) {
  const auto refusal = [this](const std::function<void(v1::JobSpec*)>& change) {
    v1::JobSpec spec = JobOf(1);
    change(&spec);
    v1::Job job;
    return Submit(spec, &job);
  };
  grpc::Status status =
      refusal([](v1::JobSpec* spec) { spec->mutable_train()->set_learning_rate(-1); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("train.learning_rate"));

  status = refusal([](v1::JobSpec* spec) { spec->mutable_model()->set_path("nowhere"); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("model.path"));

  status = refusal([](v1::JobSpec* spec) { spec->mutable_model()->set_path("images"); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("model_index.json"));

  status = refusal([](v1::JobSpec* spec) { spec->mutable_data()->set_path("model"); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("data.path"));

  status = refusal([](v1::JobSpec* spec) { spec->mutable_data()->set_path("/etc"); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("allowed_roots"));

  v1::ListJobsResponse response;
  ASSERT_TRUE(List(0, "", &response).ok());
  EXPECT_THAT(response.jobs(), IsEmpty());
}

TEST_F(JobsTest, ARepeatedRequestReturnsTheFirstJob) {
  script_.epochs_allowed = 0;
  v1::Job first, again, other;
  ASSERT_TRUE(Submit(JobOf(3), &first, "request-1").ok());
  ASSERT_TRUE(Submit(JobOf(3), &again, "request-1").ok());
  EXPECT_EQ(again.id(), first.id());
  const grpc::Status status = Submit(JobOf(4), &other, "request-1");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(status.error_message(), HasSubstr(first.id()));
  ASSERT_TRUE(Submit(JobOf(3), &other, "request-2").ok());
  EXPECT_NE(other.id(), first.id());
  ASSERT_TRUE(Submit(JobOf(3), &other).ok());
  EXPECT_EQ(other.id(), "job-000003");

  // Also when its files are gone, and after a restart.
  std::filesystem::remove_all(dir_ / "images");
  ASSERT_TRUE(Submit(JobOf(3), &again, "request-1").ok());
  EXPECT_EQ(again.id(), first.id());
  Stop();
  Start();
  ASSERT_TRUE(Submit(JobOf(3), &again, "request-1").ok());
  EXPECT_EQ(again.id(), first.id());
}

TEST_F(JobsTest, AJobThatItsWorkersRefuseFailsWithTheirMessage) {
  script_.fails_to_load = true;
  const v1::Job job = WaitFor(MustSubmit(JobOf(1)).id(), v1::FAILED);
  EXPECT_EQ(job.state_reason(), "unet/config.json: `act_fn` is `mish`; silu is supported");
  // Its ranks are free again.
  script_.fails_to_load = false;
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
}

TEST_F(JobsTest, TextsThatAreNotUtf8ReachTheClientAndTheStore) {
  Stop();
  const std::string bytes = dir_ / "caf\xe9";
  std::filesystem::create_directory(bytes);
  std::filesystem::rename(dir_ / "images", bytes + "/images");
  std::filesystem::create_directory_symlink(bytes + "/images", dir_ / "images");
  cluster_.data_dir = bytes + "/data";
  Start();
  script_.epochs_allowed = 1;
  const v1::Job job = MustSubmit(JobOf(3));  // A link's target is the path.
  EXPECT_EQ(job.spec().data().path(), dir_ / "caf\\xE9/images");
  EXPECT_EQ(job.output_dir(), dir_ / "caf\\xE9/data/jobs/job-000001");
  WaitForEpoch(job.id(), 1);
  workers_->FailJob(1, absl::InvalidArgumentError("what() of a library: caf\xe9\xff\xfe"));
  EXPECT_EQ(WaitFor(job.id(), v1::FAILED).state_reason(),
            "what() of a library: caf\\xE9\\xFF\\xFE");
  EXPECT_EQ(Watch(job.id(), 1).back().state().reason(), Get(job.id()).state_reason());

  // The path as it is shown names the folder; a job that waits is read again.
  v1::JobSpec spec = JobOf(1);
  spec.mutable_data()->set_path(job.spec().data().path());
  script_.epochs_allowed = 0;
  const v1::Job waits = MustSubmit(spec);
  EXPECT_EQ(waits.spec().data().path(), job.spec().data().path());
  Stop();
  Start();
  script_.epochs_allowed = 100;
  const v1::Job ended = WaitFor(waits.id(), v1::SUCCEEDED);
  EXPECT_EQ(ended.lora_path(), dir_ /
                                   "caf\\xE9/data/jobs/job-000002/checkpoints/epoch-000001/"
                                   "pytorch_lora_weights.safetensors");
  EXPECT_TRUE(std::filesystem::exists(PathOf(ended.lora_path())));
}

TEST_F(JobsTest, LongTextsInARefusalDoNotHideIt) {
  v1::JobSpec spec = JobOf(1);
  std::string name;
  for (int i = 0; i < 20000; ++i) name += "\u00e9";
  spec.set_name(name);
  v1::Job job;
  const grpc::Status status = Submit(spec, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("`name` is `"));
  EXPECT_THAT(status.error_message(), HasSubstr("it must be 1 to 64 letters"));
  EXPECT_TRUE(IsValidUtf8(status.error_message()));
}

TEST_F(JobsTest, RequestsThatAreNotUtf8AreRefusedAndTheServiceGoesOn) {
  // As from a client in a language that does not check for UTF-8.
  grpc::GenericStub generic(
      grpc::CreateChannel(service_->grpc_address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const std::string bytes =
      "\x0a\x04"
      "caf\xe9";  // Field 1, GetJobRequest.id.
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::CompletionQueue queue;
  const auto call =
      generic.PrepareUnaryCall(&context, "/imageddpo.v1.TrainerService/GetJob", request, &queue);
  call->StartCall();
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_FALSE(status.ok());
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
}

TEST_F(JobsTest, WarningsOfASubmittedJobAreOnIt) {
  v1::JobSpec spec = JobOf(1);
  spec.mutable_data()->set_prompt("a photo");  // Guidance is 1.
  const v1::Job job = MustSubmit(spec);
  ASSERT_EQ(job.warnings_size(), 1);
  EXPECT_THAT(job.warnings(0), HasSubstr("data.prompt"));
  WaitFor(job.id(), v1::SUCCEEDED);
  const std::vector<v1::JobEvent> events = Watch(job.id(), 1);
  EXPECT_EQ(events[1].warning().message(), job.warnings(0));
}

TEST_F(JobsTest, UnknownJobsAreNotFound) {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_id("job-000042");
  v1::Job job;
  const grpc::Status status = stub().GetJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("job-000042"));
}

TEST_F(JobsTest, ListsInPagesNewestFirst) {
  script_.epochs_allowed = 0;
  for (int i = 0; i < 5; ++i) MustSubmit(JobOf(1));
  std::vector<std::string> ids;
  std::string token;
  int pages = 0;
  do {
    v1::ListJobsResponse response;
    const grpc::Status status = List(2, token, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    for (const v1::Job& job : response.jobs()) ids.push_back(job.id());
    token = response.next_page_token();
    if (++pages == 1) MustSubmit(JobOf(1));  // A new job does not disturb the pages after it.
  } while (!token.empty() && pages < 10);
  EXPECT_EQ(pages, 3);
  EXPECT_THAT(ids,
              ElementsAre("job-000005", "job-000004", "job-000003", "job-000002", "job-000001"));

  v1::ListJobsResponse all;
  ASSERT_TRUE(List(0, "", &all).ok());
  EXPECT_EQ(all.jobs_size(), 6);
  EXPECT_EQ(all.next_page_token(), "");
  ASSERT_TRUE(List(100000, "", &all).ok());  // Cut to 500, not refused.
  EXPECT_EQ(List(-1, "", &all).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(List(2, "made up", &all).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(List(2, "3-00000000", &all).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(JobsTest, SubmitWaitsForTheWorkersToReport) {
  Stop();
  script_.says_hello = false;
  Start();
  v1::Job job;
  std::thread late([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    script_.says_hello = true;
  });
  EXPECT_TRUE(Submit(JobOf(1), &job).ok());
  late.join();
  EXPECT_EQ(job.spec().device().num_threads(), 8);
}

TEST_F(JobsTest, LeasesGoToTheWorkersAndTheEndToo) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (workers_->newest_lease() < 2 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(workers_->newest_lease(), 2u);
}

}  // namespace
}  // namespace imageddpo
