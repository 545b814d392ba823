// A new verb of the client is one line: AddJobVerb() with a method of the API.

#include "deploy/imageddpo/commands/commands.h"
#include "gmock/gmock.h"
#include "tests/service/cli/fake_service.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class JobVerbTest : public ::testing::Test {
 protected:
  JobVerbTest() {
    v1::Job job;
    job.set_id("job-000001");
    job.set_state(v1::RUNNING);
    service_.SetJob(job);
    program_.address.address = service_.address();
    program_.is_interrupted = [] { return false; };
    AddJobVerbs(app_, program_);
    AddJobVerb(app_, program_, "look", "Look at a job", &Client::Stub::GetJob);
  }

  /// Standard output of `imageddpo ARGUMENTS`.
  std::string Run(const std::string& arguments, ExitCode expected) {
    app_.parse(arguments);
    testing::internal::CaptureStdout();
    EXPECT_EQ(program_.action(), expected);
    return testing::internal::GetCapturedStdout();
  }

  FakeService service_;
  Program program_;
  CLI::App app_;
};

TEST_F(JobVerbTest, CallsTheMethodAndPrintsTheState) {
  EXPECT_EQ(Run("look job-000001", ExitCode::kOk), "job-000001 RUNNING\n");
  EXPECT_EQ(service_.cancel_count(), 0);
  EXPECT_EQ(Run("cancel job-000001", ExitCode::kOk), "job-000001 CANCELLING\n");
  EXPECT_EQ(service_.cancel_count(), 1);
}

TEST_F(JobVerbTest, FailsAsEveryCommandDoes) {
  EXPECT_EQ(Run("look job-000009", ExitCode::kNotFound), "");
  EXPECT_THROW(app_.parse("look"), CLI::RequiredError);
  EXPECT_THAT(app_.help(), HasSubstr("Look at a job"));
}

}  // namespace
}  // namespace imageddpo
