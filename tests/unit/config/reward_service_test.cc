#include "common/config/reward_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/rejection.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

bool IsAllowed(const std::vector<std::string>& patterns, const std::string& address) {
  return IsEndpointAllowed(patterns, *Address::Parse(address));
}

TEST(RewardsAllow, LocalIsThisHost) {
  for (const char* local : {"127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/x.sock"}) {
    EXPECT_FALSE(IsAllowed({}, local)) << local;
    EXPECT_TRUE(IsAllowed({"local"}, local)) << local;
    EXPECT_FALSE(IsAllowed({"10.0.0.7"}, local)) << local;
  }
  for (const char* other : {"10.0.0.7:1", "example.org:1", "127.example.org:1"}) {
    EXPECT_FALSE(IsAllowed({"local"}, other)) << other;
  }
}

TEST(RewardsAllow, ServicesAreHostsAndPorts) {
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
  EXPECT_FALSE(IsAllowed({"/*", "sha256:" + std::string(64, '0')}, "a:1"));
}

TEST(RewardsAllow, OtherEntriesAreRefused) {
  const std::string hash(64, 'a');
  for (const std::string& good :
       {std::string("local"), std::string("*"), std::string("*:1"), std::string("*.a"),
        std::string("a.b:7"), std::string("10.0.0.7"), std::string("[fe80::1]"),
        std::string("/srv/rewards/*.pt"), "sha256:" + hash}) {
    EXPECT_TRUE(IsRewardsAllowEntry(good)) << good;
  }
  for (const std::string& bad :
       {std::string(""), std::string("a:b"), std::string("a:0"), std::string("a:70000"),
        std::string("a*.b"), std::string("*."), std::string("http://a"), std::string("a b"),
        std::string(":1"), "sha256:" + hash.substr(1), "sha256:" + std::string(64, 'A'),
        std::string("rewards/*.pt")}) {
    EXPECT_FALSE(IsRewardsAllowEntry(bad)) << bad;
  }
}

/// A job with a service for each of the addresses, or with a TorchScript file.
v1::JobSpec JobWith(const std::vector<std::string>& endpoints, const std::string& model = "") {
  v1::JobSpec job;
  job.add_rewards()->set_type("jpeg");
  v1::RewardSpec& reward = *job.add_rewards();
  for (const std::string& endpoint : endpoints) reward.add_endpoints(endpoint);
  if (!model.empty()) reward.set_model(model);
  return job;
}

/// Every file has the hash of its path's last letter.
absl::StatusOr<std::string> HashOf(const std::string& path) { return std::string(64, path.back()); }

absl::Status Check(const std::vector<std::string>& allow, bool is_operator, v1::JobSpec job) {
  return CheckAllowedRewards(allow, is_operator, HashOf, &job);
}

TEST(RewardsAllow, ARefusalNamesEachAndTheList) {
  const v1::JobSpec job = JobWith({"127.0.0.1:1", "a:1", "b:1"});
  const absl::Status status = Check({"local", "b"}, false, job);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("`rewards[1].endpoints`: a:1"), HasSubstr("(local, b)"),
                    HasSubstr("`rewards.allow`"), Not(HasSubstr("b:1"))));
  EXPECT_EQ(RejectionOf(status).reason, "REWARD_NOT_ALLOWED");
  EXPECT_EQ(RejectionOf(status).violations[0].field, "rewards[1].endpoints");
  EXPECT_TRUE(Check({"local", "a", "b"}, false, job).ok());
}

TEST(RewardsAllow, WithoutAListOnlyTheOperatorNamesCodeAndServices) {
  EXPECT_TRUE(Check({}, true, JobWith({"127.0.0.1:1"})).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Check({}, false, JobWith({"127.0.0.1:1"}))));
  EXPECT_TRUE(absl::IsPermissionDenied(Check({}, true, JobWith({"example.org:1"}))));
  EXPECT_TRUE(Check({}, true, JobWith({}, "/srv/a.pt")).ok());
  const absl::Status file = Check({}, false, JobWith({}, "/srv/a.pt"));
  EXPECT_TRUE(absl::IsPermissionDenied(file)) << file;
  EXPECT_THAT(std::string(file.message()), HasSubstr("`rewards[1].model`: /srv/a.pt is code"));
  EXPECT_TRUE(Check({}, false, JobWith({})).ok()) << "neither code nor a service";
}

TEST(RewardsAllow, FilesAreAllowedByPathOrByHash) {
  EXPECT_TRUE(Check({"/srv/*.pt"}, false, JobWith({}, "/srv/a.pt")).ok());
  EXPECT_TRUE(Check({"/srv/?.pt"}, false, JobWith({}, "/srv/a.pt")).ok());
  for (const char* outside : {"/srv/deep/a.pt", "/srv2/a.pt", "/srv/a.pth"}) {
    EXPECT_FALSE(Check({"/srv/*.pt"}, false, JobWith({}, outside)).ok()) << outside;
  }
  const std::vector<std::string> hashes = {"sha256:" + std::string(64, 'a')};
  v1::JobSpec job = JobWith({}, "/srv/a");
  EXPECT_TRUE(CheckAllowedRewards(hashes, false, HashOf, &job).ok());
  EXPECT_EQ(job.rewards(1).model_sha256(), std::string(64, 'a')) << "no other file is opened";
  EXPECT_TRUE(absl::IsPermissionDenied(Check(hashes, false, JobWith({}, "/srv/b"))));
}

TEST(RewardsAllow, AFileThatIsNamedByItsHashMustHaveIt) {
  v1::JobSpec job = JobWith({}, "/srv/a");
  job.mutable_rewards(1)->set_model_sha256(std::string(64, 'a'));
  EXPECT_TRUE(Check({}, true, job).ok());
  job.mutable_rewards(1)->set_model_sha256(std::string(64, 'b'));
  const absl::Status status = Check({}, true, job);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("`rewards[1].model_sha256` is bbb"));
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
