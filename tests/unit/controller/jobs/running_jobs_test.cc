#include "trainer/controller/jobs/running_jobs.h"

#include "gmock/gmock.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RunningJobsTest : public StoredJobsTest {
 protected:
  RunningJobsTest() {
    for (const int rank : {1, 2}) {
      v1::Hello hello;
      hello.set_hostname("host");
      hello.set_cores(4);
      pool_.WorkerReported(rank, hello);
    }
  }

  /// A job on both ranks.
  JobRecord& Started() {
    JobRecord& record = Add(SpecOf(2));
    recovery_.Requeue(record);
    for (const Scheduler::Gang& gang : pool_.FormGangs()) jobs_.Start(gang);
    for (const auto& [rank, message] : sent_) tag_ = message.start_job().gang().tag();
    return record;
  }
  void Ended(int rank, const std::string& id, absl::StatusCode code = absl::StatusCode::kOk) {
    v1::WorkerMessage message;
    message.mutable_ended()->set_job_id(id);
    message.mutable_ended()->set_gang_tag(tag_);
    message.mutable_ended()->set_code(static_cast<int>(code));
    jobs_.OnReport(rank, message);
  }
  std::vector<int> Stopped() const {
    std::vector<int> ranks;
    for (const auto& [rank, message] : sent_) {
      if (message.has_stop_job()) ranks.push_back(rank);
    }
    return ranks;
  }

  PosixFileSystem disk_;
  Scheduler pool_{{1, 2}};
  Recovery recovery_{3, *table_, pool_};
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  std::string tag_;
  ArtifactWriter writer_{{}, disk_, clock_};
  RunningJobs jobs_{{.stop_timeout_seconds = 5},
                    {disk_, clock_, *table_, *hub_, *metrics_, *job_metrics_, pool_, recovery_,
                     logger_, writer_, [this](int rank, v1::ControllerMessage message) {
                       sent_.emplace_back(rank, std::move(message));
                     }}};
};

TEST_F(RunningJobsTest, ALostRankStopsTheOthersAndTheJobWaitsForNewOnes) {
  JobRecord& record = Started();
  const std::string id = record.job.id();
  EXPECT_TRUE(jobs_.Contains(id));
  jobs_.OnRankLost(1, id, "rank 1: died");
  EXPECT_EQ(record.job.state(), v1::RECOVERING);
  EXPECT_THAT(Stopped(), ElementsAre(2));
  EXPECT_FALSE(jobs_.moved());
  Ended(2, id, absl::StatusCode::kAborted);
  EXPECT_TRUE(jobs_.empty());
  EXPECT_TRUE(jobs_.moved());
  EXPECT_THAT(pool_.FormGangs(), SizeIs(1));  // It is in the queue, and its ranks are free.
}

TEST_F(RunningJobsTest, AnErrorOfTheJobPrecedesALaterDeath) {
  JobRecord& record = Started();
  const std::string id = record.job.id();
  Ended(1, id, absl::StatusCode::kInvalidArgument);
  jobs_.OnRankLost(2, id, "rank 2: died");
  EXPECT_EQ(record.job.state(), v1::FAILED);
  EXPECT_FALSE(recovery_.charged());
  EXPECT_THAT(pool_.FormGangs(), IsEmpty());
}

TEST_F(RunningJobsTest, RanksThatDoNotStopAreNamedAfterTheTimeout) {
  const std::string id = Started().job.id();
  jobs_.Stop("job-000099", "unknown");
  EXPECT_THAT(Stopped(), IsEmpty());
  jobs_.Stop(id, "asked");
  EXPECT_THAT(Stopped(), ElementsAre(1, 2));
  Ended(1, id, absl::StatusCode::kCancelled);
  clock_.Advance(4.9);
  EXPECT_THAT(jobs_.StuckRanks(), IsEmpty());
  clock_.Advance(0.2);
  const auto stuck = jobs_.StuckRanks();
  ASSERT_THAT(stuck, SizeIs(1));
  EXPECT_EQ(stuck[0].world_rank, 2);
  EXPECT_EQ(stuck[0].reason, "did not stop " + id + " within 5 s");
}

TEST_F(RunningJobsTest, UnknownJobsAndRanksAreIgnored) {
  JobRecord& record = Started();
  jobs_.OnRankLost(1, "", "idle");
  jobs_.OnRankLost(1, "job-000099", "whose");
  Ended(3, record.job.id(), absl::StatusCode::kInternal);
  EXPECT_EQ(record.job.state(), v1::STARTING);
  EXPECT_TRUE(jobs_.Contains(record.job.id()));
}

}  // namespace
}  // namespace imageddpo
