#include "trainer/guards/gradient_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace imageddpo {
namespace {

/// Norms that differ: 1 to 2, without an order.
std::vector<double> Norms(int count) {
  std::vector<double> norms;
  for (int i = 0; i < count; ++i) norms.push_back(1.5 + 0.5 * std::sin(7.0 * i));
  return norms;
}

/// The largest norm that the rule accepts after these.
double Limit(const std::vector<double>& norms, double zscore) {
  const auto count = static_cast<double>(norms.size());
  double mean = 0, variance = 0;
  for (const double norm : norms) mean += norm / count;
  for (const double norm : norms) variance += (norm - mean) * (norm - mean) / count;
  return mean + zscore * std::sqrt(variance);
}

TEST(GradientGuard, SkipsWhatIsFarAboveTheNormsSoFar) {
  GradientGuard guard(3);
  std::vector<double> accepted = Norms(GradientGuard::kFirstUpdates);
  for (const double norm : accepted) EXPECT_TRUE(guard.Judge(norm));
  for (int round = 0; round < 5; ++round) {
    const double limit = Limit(accepted, 3);
    EXPECT_FALSE(guard.Judge(limit + 1e-9)) << round;
    EXPECT_FALSE(guard.Judge(1e9)) << "it did not enter the statistics";
    accepted.push_back(limit - 1e-9);
    EXPECT_TRUE(guard.Judge(accepted.back())) << round;
    accepted.push_back(0);
    EXPECT_TRUE(guard.Judge(0)) << "only large ones are spikes";
  }
  EXPECT_EQ(guard.skipped(), 10);
}

TEST(GradientGuard, TheFirstUpdatesAreAcceptedWhateverTheyAre) {
  GradientGuard guard(1);
  for (int64_t i = 0; i < GradientGuard::kFirstUpdates; ++i) {
    EXPECT_TRUE(guard.Judge(std::pow(10.0, static_cast<double>(i))));
  }
  EXPECT_EQ(guard.skipped(), 0);
}

TEST(GradientGuard, NormsThatStayHighAreAcceptedInTheEnd) {
  GradientGuard guard(4);
  for (const double norm : Norms(20)) EXPECT_TRUE(guard.Judge(norm));
  for (int64_t i = 0; i < GradientGuard::kMostInARow; ++i) EXPECT_FALSE(guard.Judge(100));
  for (int64_t i = 0; i < 2 * GradientGuard::kFirstUpdates; ++i) EXPECT_TRUE(guard.Judge(100));
  EXPECT_EQ(guard.skipped(), GradientGuard::kMostInARow);
}

TEST(GradientGuard, WithoutALimitNothingIsSkipped) {
  GradientGuard guard(0);
  for (const double norm : Norms(20)) EXPECT_TRUE(guard.Judge(norm));
  EXPECT_TRUE(guard.Judge(1e30));
  EXPECT_FALSE(guard.enabled());
}

TEST(GradientGuard, SurvivesAResumeBitForBit) {
  GradientGuard one(3), two(3);
  for (const double norm : Norms(21)) one.Judge(norm);
  one.Judge(50);
  two.Restore(nlohmann::json::parse(one.ToJson().dump()));
  EXPECT_EQ(two.ToJson().dump(), one.ToJson().dump());
  EXPECT_EQ(two.skipped(), 1);
  for (const double norm : Norms(30)) EXPECT_EQ(one.Judge(3 * norm), two.Judge(3 * norm));
  EXPECT_EQ(two.ToJson().dump(), one.ToJson().dump());
  EXPECT_THROW(two.Restore({{"count", 1}}), nlohmann::json::exception);
}

}  // namespace
}  // namespace imageddpo
