#include "common/kernels/tf32.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace imageddpo {
namespace {

TEST(AllowTf32, IsForMatrixProductsAndConvolutions) {
  const auto allowed = [](at::Float32Op op) {
    return at::globalContext().float32Precision(at::Float32Backend::CUDA, op) ==
           at::Float32Precision::TF32;
  };
  for (const bool allow : {true, false}) {
    AllowTf32(allow);
    EXPECT_EQ(allowed(at::Float32Op::MATMUL), allow);
    EXPECT_EQ(allowed(at::Float32Op::CONV), allow);
  }
}

}  // namespace
}  // namespace imageddpo
