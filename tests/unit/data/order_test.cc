#include "rollout/data/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>
#include <vector>

namespace imageddpo {
namespace {

std::vector<int64_t> Pass(uint64_t seed, int64_t pass, int64_t size) {
  ExampleOrder order(seed, size);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < size; ++i) indices.push_back(order(pass * size + i));
  return indices;
}

TEST(OrderTest, EveryPassIsAPermutation) {
  for (const int64_t size : {1, 2, 7, 100}) {
    for (const int64_t pass : {0, 1, 5}) {
      std::vector<int64_t> indices = Pass(42, pass, size);
      std::sort(indices.begin(), indices.end());
      std::vector<int64_t> all(static_cast<size_t>(size));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(indices, all) << size << " " << pass;
    }
  }
}

TEST(OrderTest, PassesAndSeedsDiffer) {
  std::set<std::vector<int64_t>> seen;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    for (const int64_t pass : {0, 1, 2, 3}) seen.insert(Pass(seed, pass, 20));
  }
  EXPECT_EQ(seen.size(), 12);
}

TEST(OrderTest, DoesNotDependOnTheOrderOfCalls) {
  ExampleOrder order(7, 11);
  for (const int64_t sample : {40, 3, 10, 11, 12, 39, 0}) {
    EXPECT_EQ(order(sample), ExampleIndex(7, sample, 11)) << sample;
  }
}

TEST(OrderTest, GroupsTakeTheSameExamplesInTheSameOrder) {
  constexpr int64_t kGroup = 4, kSize = 7;
  ExampleOrder order(7, kSize, kGroup);
  for (int64_t sample = 0; sample < 3 * kGroup * kSize; ++sample) {
    EXPECT_EQ(order(sample), ExampleIndex(7, sample / kGroup, kSize)) << sample;
  }
}

// These numbers must never change: a job resumed from a checkpoint has to continue with the same
// images.
TEST(OrderTest, IsFixedForever) {
  EXPECT_EQ(Pass(42, 0, 8), (std::vector<int64_t>{1, 4, 0, 5, 6, 7, 2, 3}));
  EXPECT_EQ(Pass(42, 1, 8), (std::vector<int64_t>{0, 4, 5, 1, 3, 6, 2, 7}));
}

TEST(OrderTest, EveryPlaceIsEquallyLikely) {
  // 4000 passes over 4 examples: each is first about 1000 times; 5 standard deviations are 137.
  std::vector<int> first(4);
  ExampleOrder order(3, 4);
  for (int64_t pass = 0; pass < 4000; ++pass) ++first[static_cast<size_t>(order(pass * 4))];
  for (const int count : first) EXPECT_NEAR(count, 1000, 137);
}

TEST(OrderTest, RefusesNonsense) {
  EXPECT_THROW(ExampleOrder(1, 0), std::invalid_argument);
  EXPECT_THROW(ExampleOrder(1, 5, 0), std::invalid_argument);
  EXPECT_THROW(ExampleIndex(1, -1, 5), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
