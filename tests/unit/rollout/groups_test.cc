// The samples of a group: which image they have, and which noise.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

class RolloutGroupsTest : public RolloutFixture {
 protected:
  TrajectoryBatch Sample(int64_t group_size, bool same_init_noise, int64_t epoch, int64_t m) {
    job_.mutable_sample()->set_group_size(group_size);
    job_.mutable_sample()->set_same_init_noise(same_init_noise);
    Pipeline pipeline = LoadModel();
    auto batch = Scored(Make(&pipeline)->Sample(epoch, m, epoch, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }
};

TEST_F(RolloutGroupsTest, AGroupHasOneImageAndTheNextHasTheNext) {
  std::vector<std::string> alone, grouped;
  for (int64_t m = 0; m < 2; ++m) {
    for (const std::string& id : Sample(1, false, 0, m).image_ids) alone.push_back(id);
  }
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    for (int64_t m = 0; m < 2; ++m) {
      for (const std::string& id : Sample(2, false, epoch, m).image_ids) grouped.push_back(id);
    }
  }
  ASSERT_EQ(grouped.size(), 2 * alone.size()) << "a pass over the data takes two epochs";
  for (size_t i = 0; i < grouped.size(); ++i) EXPECT_EQ(grouped[i], alone[i / 2]) << i;
}

TEST_F(RolloutGroupsTest, ItsSamplesDifferUnlessTheirFirstNoiseIsTheSame) {
  const TrajectoryBatch alone = Sample(1, false, 1, 0), own = Sample(3, false, 1, 0),
                        same = Sample(3, true, 1, 0);
  const auto latents = [](const TrajectoryBatch& batch, int64_t i, int64_t k) {
    return batch.latents[i][k];
  };
  for (int64_t i = 1; i < 3; ++i) {
    EXPECT_FALSE(latents(own, i, 0).equal(latents(own, 0, 0))) << i;
    EXPECT_TRUE(latents(same, i, 0).equal(latents(same, 0, 0))) << i;
    EXPECT_FALSE(latents(same, i, 1).equal(latents(same, 0, 1))) << "the noise of the steps";
  }
  EXPECT_TRUE(latents(same, 0, 0).equal(latents(own, 0, 0))) << "it is the first sample's noise";
  EXPECT_FALSE(Sample(3, true, 1, 1).latents[0][0].equal(latents(same, 0, 0)));
  EXPECT_TRUE(Sample(1, true, 1, 0).latents.equal(alone.latents)) << "of groups of one";
}

/// Nor does it matter where a micro-batch ends.
TEST_F(RolloutGroupsTest, AGroupThatLiesInTwoMicroBatchesStartsFromEqualLatents) {
  const TrajectoryBatch first = Sample(6, true, 0, 0), second = Sample(6, true, 0, 1);
  EXPECT_EQ(first.image_ids, second.image_ids);
  EXPECT_TRUE(first.latents.select(1, 0).equal(second.latents.select(1, 0)));
  EXPECT_FALSE(first.latents.select(1, 1).equal(second.latents.select(1, 1)));
}

}  // namespace
}  // namespace imageddpo
