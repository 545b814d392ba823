// Branches, priorities, deletions and lists of files, over the real API.

#include <algorithm>
#include <filesystem>

#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kBranchSeed = 3;
constexpr int64_t kBranchEpochs = 5;

/// Jobs end with checkpoints after epochs 2, 4 and 5.
class BranchTest : public ServiceTest {
 protected:
  std::string Trained() {
    v1::JobSpec spec = JobOf(kBranchEpochs);
    spec.set_seed(kBranchSeed);
    const std::string id = MustSubmit(spec).id();
    WaitFor(id, v1::SUCCEEDED);
    return id;
  }
  grpc::Status Branch(const v1::BranchJobRequest& request, v1::Job* job) {
    grpc::ClientContext context;
    return stub().BranchJob(&context, request, job);
  }
  static v1::BranchJobRequest BranchOf(const std::string& id, int64_t epoch) {
    v1::BranchJobRequest request;
    request.set_id(id);
    request.set_epoch(epoch);
    return request;
  }
  std::vector<int64_t> CheckpointEpochs(const std::string& id) {
    grpc::ClientContext context;
    v1::ListCheckpointsRequest request;
    request.set_id(id);
    v1::ListCheckpointsResponse found;
    const grpc::Status status = stub().ListCheckpoints(&context, request, &found);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<int64_t> epochs;
    for (const v1::CheckpointFolder& checkpoint : found.checkpoints()) {
      epochs.push_back(checkpoint.epoch());
      EXPECT_TRUE(checkpoint.complete());
      EXPECT_GT(checkpoint.size_bytes(), 0);
      EXPECT_GT(checkpoint.write_time().seconds(), 0);
    }
    return epochs;
  }
};

TEST_F(BranchTest, WithNothingChangedHasTheSameBits) {
  Start();
  const std::string id = Trained();
  v1::Job job;
  const grpc::Status status = Branch(BranchOf(id, 2), &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.branched_from(), id);
  EXPECT_EQ(WaitFor(job.id(), v1::SUCCEEDED).resume_count(), 0);
  EXPECT_EQ(ReadJobFile(job.id(), "metrics.jsonl"), ReadJobFile(id, "metrics.jsonl"));
  EXPECT_EQ(ReadJobFile(job.id(), "metrics.jsonl"), ExpectedMetrics(kBranchSeed, kBranchEpochs));
  for (const char* name : {"pytorch_lora_weights.safetensors", "optimizer.safetensors"}) {
    const std::string file = std::string("checkpoints/epoch-000005/") + name;
    EXPECT_EQ(ReadJobFile(job.id(), file), ReadJobFile(id, file)) << name;
  }
  EXPECT_THAT(CheckpointEpochs(id), ElementsAre(2, 4, 5));
  EXPECT_THAT(CheckpointEpochs(job.id()), ElementsAre(2, 4, 5));
  const std::vector<v1::StartJob> started = workers_->Started();
  EXPECT_EQ(started.back().resume_from().optimizer(), "moments after 2");
}

TEST_F(BranchTest, SettingsChangeOrAreRefusedByName) {
  Start();
  const std::string id = Trained();
  v1::BranchJobRequest request = BranchOf(id, 5);
  request.add_settings("num_epochs=7");
  request.add_settings("train.learning_rate=1e-5");
  request.set_request_id("once");
  v1::Job job, again;
  ASSERT_TRUE(Branch(request, &job).ok());
  EXPECT_EQ(job.spec().train().learning_rate(), 1e-5);
  ASSERT_TRUE(Branch(request, &again).ok());
  EXPECT_EQ(again.id(), job.id());
  EXPECT_EQ(WaitFor(job.id(), v1::SUCCEEDED).progress().epoch(), 7);

  request = BranchOf(id, 2);
  request.add_settings("lora.rank=3");
  const grpc::Status refused = Branch(request, &job);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("`lora.rank` cannot change with a checkpoint"));
  request.set_settings(0, "lora.rnk=3");
  EXPECT_THAT(Branch(request, &job).error_message(), HasSubstr("rnk"));
  EXPECT_EQ(Branch(BranchOf(id, 3), &job).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Branch(BranchOf("job-000099", 1), &job).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(BranchTest, AJobStartsFromTheLoraOfAnotherByItsId) {
  Start();
  const std::string id = Trained();
  v1::JobSpec spec = JobOf(2);
  spec.mutable_lora()->set_init_from(id);
  const v1::Job job = MustSubmit(spec);
  EXPECT_EQ(job.spec().lora().init_from(), Get(id).lora_path());
  EXPECT_THAT(job.spec().lora().init_from(),
              HasSubstr(id + "/checkpoints/epoch-000005/pytorch_lora_weights.safetensors"));
  WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(workers_->Started().back().spec().lora().init_from(), Get(id).lora_path());

  v1::Job refused;
  spec.mutable_lora()->set_init_from(id + ":best");
  grpc::Status status = Submit(spec, &refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("needs `checkpoint.best`"));
  spec.mutable_lora()->set_init_from("job-000099");
  status = Submit(spec, &refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("`lora.init_from`"));

  grpc::ClientContext context;
  v1::SubmitJobRequest held;
  *held.mutable_job() = JobOf(2);
  held.set_hold(true);
  v1::Job waiting;
  ASSERT_TRUE(stub().SubmitJob(&context, held, &waiting).ok());
  spec.mutable_lora()->set_init_from(waiting.id());
  status = Submit(spec, &refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr(waiting.id() + " is PAUSED"));
}

TEST_F(BranchTest, ADeletedJobIsGoneAndItsBranchIsWhole) {
  Start();
  const std::string id = Trained();
  v1::Job branch;
  ASSERT_TRUE(Branch(BranchOf(id, 4), &branch).ok());
  WaitFor(branch.id(), v1::SUCCEEDED);
  const auto remove = [&](v1::DeleteJobResponse* freed) {
    grpc::ClientContext context;
    v1::DeleteJobRequest request;
    request.set_id(id);
    return stub().DeleteJob(&context, request, freed);
  };
  v1::DeleteJobResponse freed;
  ASSERT_TRUE(remove(&freed).ok());
  EXPECT_GT(freed.freed_bytes(), 0);
  EXPECT_GT(freed.num_files(), 12);  // Three checkpoints of four files, and others.
  EXPECT_EQ(remove(&freed).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "data/jobs/" + id));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "data/jobs/." + id + ".deleted"));
  EXPECT_THAT(CheckpointEpochs(branch.id()), ElementsAre(4, 5));
}

TEST_F(BranchTest, WhatADeathLeftOfADeletionIsRemovedAtTheStart) {
  dir_.Write("data/jobs/.job-000009.deleted/metrics.jsonl", "{}");
  Start();
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "data/jobs/.job-000009.deleted"));
}

TEST_F(BranchTest, FilesAreListedInPages) {
  Start();
  const std::string id = Trained();
  std::vector<std::string> names;
  v1::ListArtifactsRequest request;
  request.set_id(id);
  request.set_page_size(3);
  do {
    grpc::ClientContext context;
    v1::ListArtifactsResponse page;
    ASSERT_TRUE(stub().ListArtifacts(&context, request, &page).ok());
    EXPECT_LE(page.artifacts_size(), 3);
    for (const v1::Artifact& artifact : page.artifacts()) names.push_back(artifact.name());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(names.front(), "checkpoints/epoch-000002/MANIFEST");
  EXPECT_THAT(names, testing::Contains("metrics.jsonl"));
  EXPECT_THAT(names, testing::Contains("eval/epoch-000005.jsonl"));
}

TEST_F(BranchTest, TheHigherPriorityRunsFirst) {
  script_.epochs_allowed = 0;
  Start();
  MustSubmit(JobOf(1));  // Holds the ranks.
  const std::string low = MustSubmit(JobOf(1)).id(), high = MustSubmit(JobOf(1)).id();
  grpc::ClientContext context;
  v1::UpdateJobRequest request;
  request.set_id(high);
  request.set_priority(5);
  v1::Job job;
  ASSERT_TRUE(stub().UpdateJob(&context, request, &job).ok());
  EXPECT_EQ(job.priority(), 5);
  script_.epochs_allowed = 1000;
  WaitFor(low, v1::SUCCEEDED);
  std::vector<std::string> order;
  for (const v1::StartJob& start : workers_->Started()) {
    if (order.empty() || order.back() != start.job_id()) order.push_back(start.job_id());
  }
  EXPECT_THAT(order, ElementsAre("job-000001", high, low));
}

}  // namespace
}  // namespace imageddpo
