#include "trainer/algo/weight_average.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace imageddpo {
namespace {

TEST(WeightAverage, IsTheSumWithFallingWeights) {
  const at::Tensor values_NP = at::randn({6, 5});
  WeightAverage average(0.75, 2, values_NP[0].clone());
  EXPECT_TRUE(average.values().equal(values_NP[0]));
  for (int64_t update = 1; update < 6; ++update) {
    average.Update(values_NP[update].clone(), update);
    EXPECT_EQ(average.values().equal(values_NP[update]), update <= 2) << "the warm-up";
  }
  // Two in the warm-up, then three: 0.75³ of the second, 0.75²/4 of the third, ….
  const at::Tensor weights_N = at::tensor({0, 0, 27, 9, 12, 16}, at::kDouble) / 64;
  const at::Tensor expected_P = at::matmul(weights_N, values_NP.to(at::kDouble));
  EXPECT_TRUE(at::allclose(average.values().to(at::kDouble), expected_P, 1e-5, 1e-6));
}

TEST(WeightAverage, GoesOnFromWhatItWas) {
  const at::Tensor values_NP = at::randn({4, 5});
  WeightAverage one(0.9, 0, values_NP[0].clone()), two(0.9, 0, values_NP[3].clone());
  one.Update(values_NP[1].clone(), 1);
  two.Restore(one.values());
  one.Update(values_NP[2].clone(), 2);
  two.Update(values_NP[2].clone(), 2);
  EXPECT_TRUE(one.values().equal(two.values()));
  EXPECT_FALSE(one.values().is_same(two.values()));
}

}  // namespace
}  // namespace imageddpo
