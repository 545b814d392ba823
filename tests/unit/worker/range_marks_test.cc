#include "common/worker/range_marks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/profiler/stubs/base.h>

#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/worker/span_log.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// What libtorch's CUDA half registers, as far as ranges go; it notes them.
class NotedRanges final : public torch::profiler::impl::ProfilerStubs {
 public:
  void record(c10::DeviceIndex*, torch::profiler::impl::ProfilerVoidEventStub*,
              int64_t*) const override {}
  float elapsed(const torch::profiler::impl::ProfilerVoidEventStub*,
                const torch::profiler::impl::ProfilerVoidEventStub*) const override {
    return 0;
  }
  void mark(const char*) const override {}
  void rangePush(const char* name) const override { noted.push_back(std::string("begin ") + name); }
  void rangePop() const override { noted.emplace_back("end"); }
  bool enabled() const override { return true; }
  void onEachDevice(std::function<void(int)>) const override {}
  void synchronize() const override {}

  mutable std::vector<std::string> noted;
};

TEST(RangeMarks, SpansAreRangesOnAGpuWhetherATraceIsMadeOrNot) {
  auto* const before =
      const_cast<torch::profiler::impl::ProfilerStubs*>(torch::profiler::impl::cudaStubs());
  NotedRanges ranges;
  torch::profiler::impl::registerCUDAMethods(&ranges);
  const SystemClock clock;
  EXPECT_EQ(RangeMarksOf(at::kCPU), nullptr);
  SpanLog on_cpu(clock, 1, RangeMarksOf(at::kCPU));
  { const SpanLog::Span span(&on_cpu, "rollout"); }
  EXPECT_THAT(ranges.noted, IsEmpty());

  SpanLog log(clock, 1, RangeMarksOf(at::Device(at::kCUDA, 0)));
  {
    const SpanLog::Span outer(&log, "rollout");
    const SpanLog::Span inner(&log, "sample");
    const SpanLog::Span none(nullptr, "of no log");
  }
  EXPECT_THAT(ranges.noted, ElementsAre("begin rollout", "begin sample", "end", "end"));
  torch::profiler::impl::registerCUDAMethods(before);
}

}  // namespace
}  // namespace imageddpo
