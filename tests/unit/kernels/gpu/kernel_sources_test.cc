#include "common/kernels/gpu/kernel_sources.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace imageddpo {
namespace {

TEST(GpuKernelSource, HasEveryKernelAndNoOther) {
  constexpr absl::string_view kBegin = "extern \"C\" __global__ void ";
  const std::string source = GpuKernelSource();
  for (const char* name : GpuKernelNames()) {
    EXPECT_NE(source.find(absl::StrCat(kBegin, name, "(")), std::string::npos) << name;
  }
  const size_t kernels = std::vector<absl::string_view>(absl::StrSplit(source, kBegin)).size() - 1;
  EXPECT_EQ(kernels, GpuKernelNames().size());
}

// NVRTC compiles them where no header lies.
TEST(GpuKernelSource, IncludesNothing) {
  EXPECT_EQ(GpuKernelSource().find("#include"), std::string::npos);
}

}  // namespace
}  // namespace imageddpo
