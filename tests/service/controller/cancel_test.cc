#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CancelTest : public ServiceTest {
 protected:
  void SetUp() override { Start(); }

  grpc::Status Cancel(const std::string& id, v1::Job* job) {
    grpc::ClientContext context;
    v1::CancelJobRequest request;
    request.set_id(id);
    return stub().CancelJob(&context, request, job);
  }
};

TEST_F(CancelTest, ARunningJobStops) {
  script_.epochs_allowed = 1;
  const v1::Job job = MustSubmit(JobOf(3));
  WaitForEpoch(job.id(), 1);
  v1::Job cancelled;
  ASSERT_TRUE(Cancel(job.id(), &cancelled).ok());
  EXPECT_EQ(cancelled.state(), v1::CANCELLING);
  EXPECT_EQ(WaitFor(job.id(), v1::CANCELLED).progress().epoch(), 1);
  EXPECT_THAT(States(Watch(job.id(), 1)),
              ElementsAre(v1::QUEUED, v1::STARTING, v1::RUNNING, v1::CANCELLING, v1::CANCELLED));
  // Its ranks are free again.
  script_.epochs_allowed = 100;
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
}

TEST_F(CancelTest, AWaitingJobIsGoneAtOnce) {
  script_.epochs_allowed = 0;
  const v1::Job running = MustSubmit(JobOf(1));
  const v1::Job waiting = MustSubmit(JobOf(1));
  v1::Job cancelled;
  ASSERT_TRUE(Cancel(waiting.id(), &cancelled).ok());
  EXPECT_EQ(cancelled.state(), v1::CANCELLED);
  script_.epochs_allowed = 100;
  WaitFor(running.id(), v1::SUCCEEDED);
  EXPECT_EQ(Get(waiting.id()).state(), v1::CANCELLED);
}

TEST_F(CancelTest, TwiceIsTheSameAsOnceWhileItStops) {
  script_.epochs_allowed = 0;
  script_.heeds_stop = false;
  const v1::Job job = MustSubmit(JobOf(1));
  WaitFor(job.id(), v1::RUNNING);
  v1::Job cancelled;
  ASSERT_TRUE(Cancel(job.id(), &cancelled).ok());
  ASSERT_TRUE(Cancel(job.id(), &cancelled).ok());
  EXPECT_EQ(cancelled.state(), v1::CANCELLING);
}

TEST_F(CancelTest, AnEndedJobCannotBeCancelled) {
  const v1::Job job = WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  v1::Job cancelled;
  const grpc::Status status = Cancel(job.id(), &cancelled);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("SUCCEEDED"));
  EXPECT_EQ(Cancel("job-000042", &cancelled).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace imageddpo
