#include "common/kernels/processor.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace imageddpo {
namespace {

constexpr char kMost[] = "ONEDNN_MAX_CPU_ISA";

/// Whether the kernel lists a feature of the processor.
bool HasFlag(const std::string& name) {
  std::ifstream info("/proc/cpuinfo");
  for (std::string word; info >> word;) {
    if (word == name) return true;
  }
  return false;
}

/// HasMatrixUnits(), as 0 or 1, in a new process, where no earlier call has cached the answer.
void ExitWithMatrixUnits(const char* most) {
  most == nullptr ? unsetenv(kMost) : setenv(kMost, most, /*overwrite=*/1);
  std::_Exit(HasMatrixUnits() ? 1 : 0);
}

TEST(ProcessorDeathTest, MatrixUnitsCountOnlyWhereLibtorchMayUseThem) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const bool amx = HasFlag("amx_tile") && HasFlag("amx_bf16");
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
