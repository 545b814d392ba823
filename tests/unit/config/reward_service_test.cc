#include "common/config/reward_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

bool IsAllowed(const std::vector<std::string>& patterns, const std::string& address) {
  return IsEndpointAllowed(patterns, *Address::Parse(address));
}

TEST(RewardEndpoints, WithoutAListTheyAreThisHosts) {
  for (const char* local : {"127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/x.sock"}) {
    EXPECT_TRUE(IsAllowed({}, local)) << local;
    EXPECT_TRUE(IsAllowed({"local"}, local)) << local;
    EXPECT_FALSE(IsAllowed({"10.0.0.7"}, local)) << local;
  }
  for (const char* other : {"10.0.0.7:1", "example.org:1", "127.example.org:1"}) {
    EXPECT_FALSE(IsAllowed({}, other)) << other;
  }
}

TEST(RewardEndpoints, PatternsAreHostsAndPorts) {
  EXPECT_TRUE(IsAllowed({"local", "10.0.0.7"}, "10.0.0.7:99"));
  EXPECT_TRUE(IsAllowed({"10.0.0.7:99"}, "10.0.0.7:99"));
  EXPECT_FALSE(IsAllowed({"10.0.0.7:99"}, "10.0.0.7:98"));
  EXPECT_FALSE(IsAllowed({"10.0.0.7"}, "10.0.0.77:1"));
  EXPECT_TRUE(IsAllowed({"*.example.org"}, "a.b.Example.org:1"));
  EXPECT_FALSE(IsAllowed({"*.example.org"}, "example.org:1"));
  EXPECT_FALSE(IsAllowed({"*.example.org"}, "badexample.org:1"));
  EXPECT_TRUE(IsAllowed({"*:443"}, "anything:443"));
  EXPECT_FALSE(IsAllowed({"*:443"}, "anything:444"));
  EXPECT_FALSE(IsAllowed({"*"}, "unix:/run/x.sock"));
  EXPECT_TRUE(IsAllowed({"[fe80::1]:5"}, "[fe80::1]:5"));
}

TEST(RewardEndpoints, OtherPatternsAreRefused) {
  for (const char* good : {"local", "*", "*:1", "*.a", "a.b:7", "10.0.0.7", "[fe80::1]"}) {
    EXPECT_TRUE(CheckEndpointPattern(good).ok()) << good;
  }
  for (const char* bad : {"", "a:b", "a:0", "a:70000", "a*.b", "*.", "http://a", "a b", ":1"}) {
    EXPECT_FALSE(CheckEndpointPattern(bad).ok()) << bad;
  }
}

TEST(RewardEndpoints, ARefusalNamesEachAndTheList) {
  v1::JobSpec job;
  job.add_rewards()->set_type("jpeg");
  v1::RewardSpec& reward = *job.add_rewards();
  for (const char* address : {"127.0.0.1:1", "a:1", "b:1"}) reward.add_endpoints(address);
  const absl::Status status = CheckRewardEndpoints({"local", "b"}, job);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("`rewards[1].endpoints`: a:1"), HasSubstr("(local, b)"),
                    HasSubstr("`reward_endpoints`"), Not(HasSubstr("b:1"))));
  EXPECT_TRUE(CheckRewardEndpoints({"local", "a", "b"}, job).ok());
}

TEST(RewardService, FailingAtOnceMeansNoRetries) {
  v1::RewardSpec reward;
  reward.set_type("service");
  reward.add_endpoints("127.0.0.1:1");
  FillRewardService(&reward);
  EXPECT_EQ(ResolveRewardService(reward).max_retries, 3);
  reward.set_on_error("drop");
  EXPECT_EQ(ResolveRewardService(reward).max_retries, 3);
  reward.set_on_error("fail");
  EXPECT_EQ(ResolveRewardService(reward).max_retries, 0);
}

TEST(RewardService, TheLongestOutageIsTheJobs) {
  v1::JobSpec job;
  EXPECT_EQ(LongestOutageSeconds(job), 0);
  job.add_rewards()->set_max_outage_seconds(5);
  job.add_rewards()->set_max_outage_seconds(70);
  job.add_rewards();
  EXPECT_EQ(LongestOutageSeconds(job), 70);
}

}  // namespace
}  // namespace imageddpo
