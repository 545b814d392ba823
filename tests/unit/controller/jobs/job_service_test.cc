// The verbs alone, and how a new one is added: CONTRIBUTING.md, "A new job verb".

#include "trainer/controller/jobs/job_service.h"

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JobServiceTest : public StoredJobsTest {
 protected:
  JobServiceTest() {
    for (const int rank : {1, 2}) {
      v1::Hello hello;
      hello.set_hostname("host");
      hello.set_cores(8);
      pool_.WorkerReported(rank, hello);
    }
  }

  std::string Submitted(int colocated = 1) {
    const auto job = verbs_.Submit({Judged(SpecOf(colocated)), "", "hash"});
    EXPECT_TRUE(job.ok()) << job.status();
    return job->id();
  }
  void StartAll() {
    for (const Scheduler::Gang& gang : pool_.FormGangs()) running_.Start(gang);
  }

  PosixFileSystem disk_;
  Scheduler pool_{{1, 2}};
  Recovery recovery_{3, *table_, pool_};
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  RunningJobs running_{{},
                       {disk_, clock_, *table_, *hub_, *job_metrics_, pool_, recovery_, logger_,
                        [this](int rank, v1::ControllerMessage message) {
                          sent_.emplace_back(rank, std::move(message));
                        }}};
  bool is_ending_ = false;
  JobService verbs_{{*table_, pool_, running_, [this] { return is_ending_; }}};
};

TEST_F(JobServiceTest, ASubmittedJobIsStoredAndQueued) {
  const std::string id = Submitted();
  EXPECT_EQ(Stored(id).state(), v1::QUEUED);
  EXPECT_EQ(Stored(id).spec().device().num_threads(), 8);
  EXPECT_EQ(Stored(id).progress().seconds_left(), -1);
  EXPECT_THAT(pool_.FormGangs(), SizeIs(1));
}

TEST_F(JobServiceTest, ARepeatedRequestReturnsItsJobEvenAtTheEnd) {
  const auto first = verbs_.Submit({Judged(SpecOf(1)), "request", "hash"});
  ASSERT_TRUE(first.ok()) << first.status();
  is_ending_ = true;
  EXPECT_EQ(verbs_.Submit({Judged(SpecOf(1)), "request", "hash"})->id(), first->id());
  EXPECT_TRUE(
      absl::IsAlreadyExists(verbs_.Submit({Judged(SpecOf(1)), "request", "other"}).status()));
  EXPECT_TRUE(absl::IsUnavailable(verbs_.Submit({Judged(SpecOf(1)), "", "hash"}).status()));
  EXPECT_THAT(table_->All(), SizeIs(1));
}

TEST_F(JobServiceTest, WhatThePoolCannotRunIsRefused) {
  EXPECT_THAT(std::string(verbs_.Submit({Judged(SpecOf(3)), "", "hash"}).status().message()),
              HasSubstr("asks for 3 workers"));
  EXPECT_THAT(table_->All(), IsEmpty());
}

TEST_F(JobServiceTest, AWaitingJobIsCancelledAtOnce) {
  const std::string id = Submitted();
  EXPECT_EQ(verbs_.Cancel(id)->state(), v1::CANCELLED);
  EXPECT_THAT(pool_.FormGangs(), IsEmpty());
  EXPECT_THAT(sent_, IsEmpty());
  const absl::Status again = verbs_.Cancel(id).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_EQ(std::string(again.message()), id + " has already ended: CANCELLED");
  EXPECT_TRUE(absl::IsNotFound(verbs_.Cancel("job-000099").status()));
}

TEST_F(JobServiceTest, ARunningJobIsToldToStopOnce) {
  const std::string id = Submitted(2);
  StartAll();
  sent_.clear();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(verbs_.Cancel(id)->state(), v1::CANCELLING);
  ASSERT_THAT(sent_, SizeIs(2));
  for (const auto& [rank, message] : sent_) {
    EXPECT_EQ(message.stop_job().job_id(), id);
    EXPECT_EQ(message.stop_job().reason(), "cancelled by request");
  }
}

}  // namespace
}  // namespace imageddpo
