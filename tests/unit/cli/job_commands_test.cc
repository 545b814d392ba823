// The client's commands branch, update, delete, checkpoints, artifacts, wait, diff and `-o name`.

#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_files_text.h"
#include "gmock/gmock.h"
#include "tests/service/cli/fake_service.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobCommandsTest : public ::testing::Test {
 protected:
  JobCommandsTest() {
    job_.set_id("job-000001");
    job_.set_state(v1::RUNNING);
    job_.mutable_spec()->set_num_epochs(6);
    service_.SetJob(job_);
    program_.address.address = service_.address();
    program_.is_interrupted = [] { return false; };
  }

  /// Standard output of `imageddpo ARGUMENTS`.
  std::string Run(const std::string& arguments, ExitCode expected) {
    CLI::App app;
    AddListCommand(app, program_);
    AddGetCommand(app, program_);
    AddBranchCommand(app, program_);
    AddUpdateCommand(app, program_);
    AddDeleteCommand(app, program_);
    AddCheckpointsCommand(app, program_);
    AddArtifactsCommand(app, program_);
    AddWaitCommand(app, program_);
    AddProfileCommand(app, program_);
    AddDiffCommand(app, program_);
    app.parse(arguments);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    EXPECT_EQ(program_.action(), expected) << arguments;
    error_ = testing::internal::GetCapturedStderr();
    return testing::internal::GetCapturedStdout();
  }

  FakeService service_;
  v1::Job job_;
  Program program_;
  std::string error_;
};

TEST_F(JobCommandsTest, Branch) {
  EXPECT_EQ(Run("branch job-000001 --from-epoch 4 --set train.learning_rate=1e-4 --set name=b",
                ExitCode::kOk),
            "job-000002 RUNNING, from epoch 4 of job-000001\n");
  EXPECT_EQ(service_.branched().epoch(), 4);
  EXPECT_THAT(service_.branched().settings(), ElementsAre("train.learning_rate=1e-4", "name=b"));
  EXPECT_EQ(service_.branched().request_id().size(), 32u);
  Run("branch job-000001 --request-id r", ExitCode::kOk);
  EXPECT_FALSE(service_.branched().has_epoch());
  EXPECT_EQ(service_.branched().request_id(), "r");
  EXPECT_EQ(Run("branch job-000009", ExitCode::kNotFound), "");
}

TEST_F(JobCommandsTest, ProfileSaysWhereTheTracesOfAllRanksAre) {
  job_.set_topology("rollout 1, trainer 1");
  job_.set_output_dir("/data/job-000001");
  job_.mutable_progress()->set_epoch(3);
  service_.SetJob(job_);
  EXPECT_EQ(Run("profile job-000001 --epochs 2", ExitCode::kOk),
            "/data/job-000001/profile/epoch-000003/rank-1.json\n"
            "/data/job-000001/profile/epoch-000003/rank-2.json\n");
  EXPECT_EQ(service_.profiled().num_epochs(), 2);
  EXPECT_EQ(Run("profile job-000009", ExitCode::kNotFound), "");
  job_.set_topology("colocated 3");
  job_.set_state(v1::SUCCEEDED);
  service_.SetJob(job_);
  Run("profile job-000001", ExitCode::kJobFailed);
  EXPECT_THAT(error_, HasSubstr("has ended with traces of 2 of 3 ranks"));
}

TEST_F(JobCommandsTest, Update) {
  EXPECT_EQ(Run("update job-000001 --priority -5 --label a=b=c --label old=", ExitCode::kOk),
            "job-000001 RUNNING\n");
  EXPECT_EQ(service_.updated().priority(), -5);
  EXPECT_FALSE(service_.updated().has_num_epochs());
  EXPECT_EQ(service_.updated().labels().at("a"), "b=c");
  EXPECT_EQ(service_.updated().labels().at("old"), "");
  Run("update job-000001 --num-epochs 9", ExitCode::kOk);
  EXPECT_EQ(service_.updated().num_epochs(), 9);
  EXPECT_FALSE(service_.updated().has_priority());
  Run("update job-000001 --label a", ExitCode::kUsage);
  EXPECT_THAT(error_, HasSubstr("give KEY=VALUE"));
}

TEST_F(JobCommandsTest, DeleteSaysWhatWasFreedAndGoesOnAfterAFault) {
  EXPECT_EQ(Run("delete job-000009 job-000001", ExitCode::kNotFound),
            "job-000001 deleted: 1.2 MB in 12 files freed\n");
  EXPECT_THAT(error_, HasSubstr("no job job-000009"));
}

TEST_F(JobCommandsTest, CheckpointsAndArtifacts) {
  const std::string checkpoints = Run("checkpoints job-000001", ExitCode::kOk);
  EXPECT_THAT(checkpoints, HasSubstr("2.0 KB"));
  EXPECT_THAT(checkpoints, HasSubstr("damaged"));
  EXPECT_THAT(checkpoints, HasSubstr("/data/epoch-000004"));
  const std::string artifacts = Run("artifacts job-000001", ExitCode::kOk);
  EXPECT_THAT(artifacts, HasSubstr("job.yaml\n"));
  EXPECT_THAT(artifacts, HasSubstr("metrics.jsonl\n2 files, 1.2 KB\n"));
}

TEST_F(JobCommandsTest, WaitEndsInTheStateInAnotherOneOrInTime) {
  EXPECT_EQ(Run("wait job-000001 --for running", ExitCode::kOk), "job-000001 RUNNING\n");
  Run("wait job-000001 --timeout 1ms", ExitCode::kUnreachable);
  EXPECT_THAT(error_, HasSubstr("job-000001 is RUNNING after 1ms, not SUCCEEDED"));
  job_.set_state(v1::FAILED);
  job_.set_state_reason("rank 2 died");
  service_.SetJob(job_);
  EXPECT_EQ(Run("wait job-000001", ExitCode::kJobFailed), "job-000001 FAILED\n");
  EXPECT_THAT(error_, HasSubstr("will not be SUCCEEDED: rank 2 died"));
  Run("wait job-000001 --for FAILED", ExitCode::kOk);
  Run("wait job-000001 --for DONE", ExitCode::kUsage);
  Run("wait job-000001 --timeout soon", ExitCode::kUsage);
  Run("wait job-000009", ExitCode::kNotFound);
}

TEST_F(JobCommandsTest, DiffShowsWhatDiffers) {
  v1::Job other = job_;
  other.set_id("job-000002");
  other.mutable_spec()->mutable_train()->set_learning_rate(0.5);
  service_.SetJob(other);
  EXPECT_EQ(Run("diff job-000001 job-000001", ExitCode::kOk),
            "The two jobs have the same settings.\n");
  EXPECT_EQ(Run("diff job-000001 job-000002", ExitCode::kOk),
            "SETTING              job-000001  job-000002\n"
            "train.learning_rate  -           0.5\n");
}

TEST_F(JobCommandsTest, NamesAndFilesOfJobs) {
  EXPECT_EQ(Run("list -o name", ExitCode::kOk), "job-000001\n");
  EXPECT_EQ(Run("get job-000001 -o name", ExitCode::kOk), "job-000001\n");
  EXPECT_THAT(Run("list -o yaml", ExitCode::kOk), HasSubstr("---\n# job-000001, RUNNING"));
}

TEST(FormatBytes, HasThreeDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 KB");
  EXPECT_EQ(FormatBytes(23'400'000), "23 MB");
  EXPECT_EQ(FormatBytes(999'900'000), "1.0 GB");
}

}  // namespace
}  // namespace imageddpo
