#include "common/kernels/processor.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace imageddpo {
namespace {

constexpr char kMost[] = "ONEDNN_MAX_CPU_ISA";

/// HasMatrixUnits(), as 0 or 1, in a new process, where no earlier call has cached the answer.
void ExitWithMatrixUnits(const char* most) {
  most == nullptr ? unsetenv(kMost) : setenv(kMost, most, /*overwrite=*/1);
  std::_Exit(HasMatrixUnits() ? 1 : 0);
}

TEST(ProcessorDeathTest, MatrixUnitsCountOnlyWhereLibtorchMayUseThem) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const bool amx =
      __builtin_cpu_supports("amx-tile") != 0 && __builtin_cpu_supports("amx-bf16") != 0;
  for (const char* most : {"AVX2", "AVX512_CORE_FP16", "avx512_core_bf16"}) {
    EXPECT_EXIT(ExitWithMatrixUnits(most), testing::ExitedWithCode(0), "") << most;
  }
  for (const char* most : {"AVX512_CORE_AMX", "avx10_1_512_amx", "DEFAULT", ""}) {
    EXPECT_EXIT(ExitWithMatrixUnits(most), testing::ExitedWithCode(amx ? 1 : 0), "") << most;
  }
  EXPECT_EXIT(ExitWithMatrixUnits(nullptr), testing::ExitedWithCode(amx ? 1 : 0), "");
}

}  // namespace
}  // namespace imageddpo
