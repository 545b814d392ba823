#include "common/learning/series_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace imageddpo {
namespace {

TEST(NoiseOf, IsOfTheDifferencesOfNeighbours) {
  EXPECT_EQ(NoiseOf({}), 0);
  EXPECT_EQ(NoiseOf({1.0}), 0);
  EXPECT_EQ(NoiseOf({3.0, 3.0, 3.0}), 0);
  // Differences 1, 1, 5: the jump does not move the median.
  EXPECT_NEAR(NoiseOf({0.0, 1.0, 0.0, 5.0}), 1 / (std::sqrt(2.0) * 0.6745), 1e-12);
}

TEST(ChangeOf, ComparesTheFirstWindowWithTheLast) {
  const Change shortest = ChangeOf({1.0, 3.0, 5.0, 9.0});
  EXPECT_EQ(shortest.window, 2U);
  EXPECT_EQ(shortest.first, 2);
  EXPECT_EQ(shortest.last, 7);
  EXPECT_EQ(shortest.difference(), 5);
  // Differences 2, 2, 4; √(2 / 2) = 1.
  EXPECT_NEAR(shortest.error, 2 / (std::sqrt(2.0) * 0.6745), 1e-12);

  EXPECT_EQ(ChangeOf(std::vector<double>(12, 1.0)).window, 3U);
  EXPECT_EQ(ChangeOf(std::vector<double>(1000, 1.0)).window, 10U);
  EXPECT_EQ(ChangeOf(std::vector<double>(1000, 1.0)).error, 0);
}

}  // namespace
}  // namespace imageddpo
