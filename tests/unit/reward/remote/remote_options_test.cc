#include "rollout/reward/remote/remote_options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/judged.h"
#include "tests/unit/reward/remote/remote_inputs.h"

namespace imageddpo {
namespace {

/// A job with a reward at each address, beside one that asks nobody.
ResolvedJob JobWith(const std::vector<std::string>& addresses) {
  v1::JobSpec job;
  job.add_rewards()->set_type("l2");
  for (const std::string& address : addresses) {
    v1::RewardSpec& reward = *job.add_rewards();
    reward.set_type("service");
    reward.add_endpoints(address);
  }
  return Judged(job);
}

bool AreThere(const std::vector<std::string>& addresses, bool is_stopped = false) {
  return AreRewardServicesThere(JobWith(addresses), kClock, [&] { return is_stopped; });
}

TEST(AreRewardServicesThere, OnceEachOfThemAnswers) {
  const FakeRewardService one;
  std::string gone;
  {
    const FakeRewardService other;
    gone = other.address();
    EXPECT_TRUE(AreThere({}));
    EXPECT_TRUE(AreThere({one.address(), other.address()}));
    EXPECT_FALSE(AreThere({one.address(), other.address()}, /*is_stopped=*/true));
  }
  EXPECT_FALSE(AreThere({one.address(), gone}));
  EXPECT_FALSE(AreThere({gone, one.address()}));
}

TEST(AreRewardServicesThere, OneThatRefusesTheTokenIsThere) {
  const FakeRewardService service(
      {.description = FakeRewardService::Describes(), .token = "secret"});
  EXPECT_TRUE(AreThere({service.address()}));
}

}  // namespace
}  // namespace imageddpo
