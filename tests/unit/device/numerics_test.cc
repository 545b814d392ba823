#include "common/device/numerics.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/testing/device/test_device.h"

namespace imageddpo {
namespace {

class NumericsTest : public testing::Test {
 protected:
  NumericsTest() { UseTestDevices(); }
  ~NumericsTest() override {
    UseNumerics(TestDevice(0), {.deterministic = false});
    at::globalContext().setSDPUseCuDNN(true);
  }
  at::Context& context_ = at::globalContext();
};

TEST_F(NumericsTest, DeterministicSetsEverySwitch) {
  context_.setDeterministicFillUninitializedMemory(true);
  context_.setBenchmarkCuDNN(true);
  UseNumerics(TestDevice(0), {.deterministic = true});
  EXPECT_TRUE(context_.deterministicAlgorithms());
  EXPECT_FALSE(context_.deterministicAlgorithmsWarnOnly());
  EXPECT_FALSE(context_.deterministicFillUninitializedMemory());
  EXPECT_TRUE(context_.deterministicCuDNN());
  EXPECT_FALSE(context_.benchmarkCuDNN());
  EXPECT_FALSE(context_.userEnabledCuDNNSDP());
  UseNumerics(TestDevice(0), {.deterministic = false});
  EXPECT_FALSE(context_.deterministicAlgorithms());
  EXPECT_FALSE(context_.deterministicCuDNN());
  EXPECT_TRUE(context_.userEnabledCuDNNSDP());
}

TEST_F(NumericsTest, LeavesTheCpuAlone) {
  UseNumerics(at::kCPU, {.deterministic = true});
  EXPECT_FALSE(context_.deterministicAlgorithms());
  EXPECT_FALSE(context_.deterministicCuDNN());
}

TEST_F(NumericsTest, Tf32IsForMatrixProductsAndConvolutions) {
  const auto allowed = [this](at::Float32Op op) {
    return context_.float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32;
  };
  for (const bool allow : {true, false}) {
    UseNumerics(at::kCPU, {.allow_tf32 = allow});
    EXPECT_EQ(allowed(at::Float32Op::MATMUL), allow);
    EXPECT_EQ(allowed(at::Float32Op::CONV), allow);
  }
}

TEST_F(NumericsTest, TheEnvironmentsWorkspacesStay) {
  constexpr char kName[] = "CUBLAS_WORKSPACE_CONFIG";
  unsetenv(kName);
  PrepareNumerics();
  EXPECT_STREQ(std::getenv(kName), ":4096:8");
  setenv(kName, ":16:8", 1);
  PrepareNumerics();
  EXPECT_STREQ(std::getenv(kName), ":16:8");
  unsetenv(kName);
}

}  // namespace
}  // namespace imageddpo
