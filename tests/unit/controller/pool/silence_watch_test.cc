#include "trainer/controller/pool/silence_watch.h"

#include <prometheus/text_serializer.h>

#include "common/base/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SilenceWatch, CountsEachSilenceOnce) {
  prometheus::Registry registry;
  ServiceMetrics metrics(registry, {}, std::chrono::system_clock::now());
  SilenceWatch watch(10, metrics, *MakeLogger({.level = "off"}));
  const auto text = [&] { return prometheus::TextSerializer().Serialize(registry.Collect()); };
  watch.Look({{1, 4.9}, {2, 0.1}});
  EXPECT_THAT(text(), Not(HasSubstr("imageddpo_worker_slow_total{")));
  watch.Look({{1, 5.1}, {2, 0.1}});
  watch.Look({{1, 6.2}, {2, 0.1}});
  EXPECT_THAT(text(), HasSubstr("imageddpo_worker_slow_total{rank=\"1\"} 1"));
  watch.Look({{1, 0.2}, {2, 0.1}});
  watch.Look({{1, 7.0}, {2, 5.0}});
  EXPECT_THAT(text(), HasSubstr("imageddpo_worker_slow_total{rank=\"1\"} 2"));
  EXPECT_THAT(text(), HasSubstr("imageddpo_worker_slow_total{rank=\"2\"} 1"));
}

}  // namespace
}  // namespace imageddpo
