// Workers that are drained by request, and the jobs that work on them.

#include "gmock/gmock.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class SupervisorDrainTest : public SupervisorTest {
 protected:
  /// A job of 8 epochs on ranks 1 and 2 that has trained two of them.
  std::string Running() {
    const std::string id = Submit(SpecOf(2, 8)).id();
    Progress(1, id, "sampling");
    TrainEpoch(id, 0);
    TrainEpoch(id, 1);
    sent_.clear();
    return id;
  }
  void TrainEpoch(const std::string& id, int64_t epoch) {
    Epoch(1, id, epoch);
    Checkpoint(1, id, epoch + 1, /*spare=*/epoch > 0);
  }
  void EndAll(const std::string& id) {
    for (const int rank : {1, 2}) Ended(rank, id, absl::CancelledError("asked to stop"));
  }
  absl::Status Drain(const std::vector<int>& ranks, bool undrain = false) {
    v1::DrainWorkerRequest request;
    for (const int rank : ranks) request.add_ranks(rank);
    request.set_undrain(undrain);
    return supervisor_->Drain(request);
  }
};

TEST_F(SupervisorDrainTest, AJobGoesOnElsewhereAfterItsEpoch) {
  const std::string id = Running();
  ASSERT_TRUE(Drain({2}).ok());
  EXPECT_THAT(StoppedRanks(id), IsEmpty()) << "the epoch is finished first";
  TrainEpoch(id, 2);
  EXPECT_THAT(StoppedRanks(id), UnorderedElementsAre(1, 2));
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  EndAll(id);
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_EQ(Stored(id).state_reason(), "rank 2 was drained by request");
  sent_.clear();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), UnorderedElementsAre(1, 3));
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 3);
}

TEST_F(SupervisorDrainTest, AJobThatFitsNowhereElseWaitsWithTheReason) {
  const std::string id = Running();
  ASSERT_TRUE(Drain({2, 3}).ok());
  TrainEpoch(id, 2);
  EndAll(id);
  sent_.clear();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), IsEmpty());
  EXPECT_THAT(hub_->Reason(id), HasSubstr("waits for drained workers: 2 of 3 are drained"));
  EXPECT_EQ(supervisor_->restart_reason(), "") << "nobody has died";
  // A smaller job does not wait behind it.
  const std::string small = Submit(SpecOf(1, 8)).id();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(small), UnorderedElementsAre(1));
  sent_.clear();
  ASSERT_TRUE(Drain({3, 2}, /*undrain=*/true).ok());
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), UnorderedElementsAre(2, 3));
}

TEST_F(SupervisorDrainTest, ADrainThatIsUndoneInTimeChangesNothing) {
  const std::string id = Running();
  ASSERT_TRUE(Drain({1, 2}).ok());
  ASSERT_TRUE(Drain({2}, /*undrain=*/true).ok());
  ASSERT_TRUE(Drain({1}, /*undrain=*/true).ok());
  TrainEpoch(id, 2);
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
}

TEST_F(SupervisorDrainTest, TheLastEpochIsTheJobsEnd) {
  const std::string id = Running();
  for (int64_t epoch = 2; epoch < 7; ++epoch) TrainEpoch(id, epoch);
  ASSERT_TRUE(Drain({1}).ok());
  TrainEpoch(id, 7);
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
  for (const int rank : {1, 2}) Ended(rank, id);
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
}

TEST_F(SupervisorDrainTest, ADrainOutlastsTheService) {
  const auto drained = [this] {
    std::vector<int> ranks;
    for (const auto& [rank, worker] : supervisor_->scheduler().workers()) {
      if (worker.drained) ranks.push_back(rank);
    }
    return ranks;
  };
  ASSERT_TRUE(Drain({2}).ok());
  Restart();
  EXPECT_THAT(drained(), ElementsAre(2));
  EXPECT_THAT(*store_->Drains(), ElementsAre("2@host"));
  ASSERT_TRUE(Drain({1, 3}).ok());  // Now the whole host, whatever the numbers of its ranks.
  EXPECT_THAT(*store_->Drains(), ElementsAre("*@host"));
  Restart();
  EXPECT_THAT(drained(), ElementsAre(1, 2, 3));
  ASSERT_TRUE(Drain({1, 2, 3}, /*undrain=*/true).ok());
  Restart();
  EXPECT_THAT(drained(), IsEmpty());
}

TEST_F(SupervisorDrainTest, UnknownWorkersChangeNothing) {
  EXPECT_TRUE(absl::IsNotFound(Drain({1, 9})));
  EXPECT_TRUE(absl::IsInvalidArgument(Drain({})));
  v1::DrainWorkerRequest request;
  request.add_hosts("nowhere");
  EXPECT_TRUE(absl::IsNotFound(supervisor_->Drain(request)));
  const v1::Cluster cluster = supervisor_->Cluster({});
  for (const v1::Host& host : cluster.hosts()) {
    for (const v1::Rank& rank : host.ranks()) EXPECT_FALSE(rank.drained());
  }
}

}  // namespace
}  // namespace imageddpo
