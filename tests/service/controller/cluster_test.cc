// GetCluster, DrainWorker and Whoami of the real service.

#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;

class ClusterTest : public ServiceTest {
 protected:
  ClusterTest() {
    script_.hostnames = {"alpha", "beta"};
    script_.sends_every_state = true;
  }

  v1::Cluster GetCluster() {
    grpc::ClientContext context;
    v1::Cluster cluster;
    const grpc::Status status = stub().GetCluster(&context, v1::GetClusterRequest(), &cluster);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return cluster;
  }
  grpc::Status Drain(const v1::DrainWorkerRequest& request, v1::Cluster* cluster) {
    grpc::ClientContext context;
    return stub().DrainWorker(&context, request, cluster);
  }
};

TEST_F(ClusterTest, ADrainedHostLosesItsJobAndGetsItBack) {
  script_.epochs_allowed = 0;
  Start();
  const std::string id = MustSubmit(JobOf(3)).id();
  WaitFor(id, v1::RUNNING);
  const v1::Cluster before = GetCluster();
  ASSERT_EQ(before.hosts_size(), 2);
  EXPECT_EQ(before.hosts(0).name(), "alpha");
  EXPECT_EQ(before.hosts(1).ranks(0).rank(), 2);
  EXPECT_EQ(before.hosts(1).ranks(0).state(), v1::RANK_BUSY);
  EXPECT_EQ(before.hosts(1).ranks(0).job_id(), id);
  EXPECT_EQ(before.hosts(1).ranks(0).cores(), 8);
  EXPECT_GE(before.hosts(1).ranks(0).heartbeat_age_seconds(), 0);
  ASSERT_EQ(before.gangs_size(), 1);
  EXPECT_EQ(before.gangs(0).job_name(), "scripted");
  EXPECT_EQ(before.gangs(0).topology(), "rollout 1, trainer 1");
  EXPECT_THAT(before.gangs(0).ranks(), ElementsAre(1, 2));
  EXPECT_TRUE(before.healthy()) << before.health();
  EXPECT_EQ(before.version(), "test");

  v1::DrainWorkerRequest request;
  request.add_hosts("beta");
  v1::Cluster drained;
  ASSERT_TRUE(Drain(request, &drained).ok());
  EXPECT_FALSE(drained.hosts(0).ranks(0).drained());
  EXPECT_TRUE(drained.hosts(1).ranks(0).drained());
  EXPECT_EQ(drained.hosts(1).ranks(0).state(), v1::RANK_BUSY) << "until the end of the epoch";
  script_.epochs_allowed = 1;
  WaitForReason(id, "waits for drained workers");
  EXPECT_EQ(GetCluster().gangs_size(), 0);

  request.set_undrain(true);
  ASSERT_TRUE(Drain(request, &drained).ok());
  EXPECT_FALSE(drained.hosts(1).ranks(0).drained());
  script_.epochs_allowed = 3;
  const v1::Job job = WaitFor(id, v1::SUCCEEDED);
  EXPECT_EQ(job.resumed_from_epoch(), 1);
  EXPECT_EQ(ReadJobFile(id, "metrics.jsonl"), ExpectedMetrics(job.spec().seed(), 3));
}

TEST_F(ClusterTest, WrongNamesAreRefused) {
  Start();
  v1::DrainWorkerRequest request;
  v1::Cluster cluster;
  EXPECT_EQ(Drain(request, &cluster).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.add_ranks(9);
  EXPECT_EQ(Drain(request, &cluster).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ClusterTest, CallersLearnWhoTheyAre) {
  cluster_.grpc.address = "unix:" + (dir_ / "api.sock");
  Start();
  grpc::ClientContext context;
  v1::WhoamiResponse answer;
  ASSERT_TRUE(stub().Whoami(&context, v1::WhoamiRequest(), &answer).ok());
  EXPECT_NE(answer.owner(), "");
  EXPECT_EQ(answer.role(), "admin");
  EXPECT_EQ(answer.known_by(), "user");
  EXPECT_FALSE(answer.has_expire_time());
  EXPECT_EQ(answer.version(), "test");
}

}  // namespace
}  // namespace imageddpo
