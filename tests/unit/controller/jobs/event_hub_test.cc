#include "trainer/controller/jobs/event_hub.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

class Counter : public EventHub::Listener {
 public:
  void OnNews() override { ++count_; }
  int count() const { return count_.load(); }
  /// Waits until the count is at least `count`.
  bool Reaches(int count) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (count_.load() < count && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return count_.load() >= count;
  }

 private:
  std::atomic<int> count_ = 0;
};

v1::JobProgress ProgressOf(int64_t epoch) {
  v1::JobProgress progress;
  progress.set_epoch(epoch);
  return progress;
}

TEST(EventHub, TellsTheListenersOfTheJobAlone) {
  EventHub hub;
  const auto a = std::make_shared<Counter>();
  const auto a2 = std::make_shared<Counter>();
  const auto b = std::make_shared<Counter>();
  hub.Listen("a", a);
  hub.Listen("a", a2);
  hub.Listen("b", b);
  hub.EventsStored("a");
  EXPECT_TRUE(a->Reaches(1));
  EXPECT_TRUE(a2->Reaches(1));
  hub.EventsStored("b");
  EXPECT_TRUE(b->Reaches(1));
  EXPECT_EQ(a->count(), 1);
}

TEST(EventHub, ProgressIsThrottledButTheLastComes) {
  EventHub hub(absl::Milliseconds(100));
  const auto listener = std::make_shared<Counter>();
  hub.Listen("a", listener);
  for (int64_t epoch = 1; epoch <= 200; ++epoch) {
    hub.SetProgress("a", ProgressOf(epoch));
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(hub.Progress("a")->epoch(), 200);
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (hub.PublishedProgress("a")->progress.epoch() < 200 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(hub.PublishedProgress("a")->progress.epoch(), 200);
  EXPECT_GE(listener->count(), 2);
  EXPECT_LE(hub.PublishedProgress("a")->version, 30u);  // 200 ms and more, at 10 a second.
}

TEST(EventHub, ProgressOfAJobThatRunsNoMoreIsGone) {
  EventHub hub(absl::Milliseconds(1));
  hub.SetProgress("a", ProgressOf(1));
  EXPECT_TRUE(hub.Progress("a").has_value());
  hub.ClearProgress("a");
  EXPECT_FALSE(hub.Progress("a").has_value());
  EXPECT_FALSE(hub.PublishedProgress("a").has_value());
}

TEST(EventHub, VersionsGrowAlsoAfterAPause) {
  EventHub hub(absl::Milliseconds(1));
  const auto listener = std::make_shared<Counter>();
  hub.Listen("a", listener);
  hub.SetProgress("a", ProgressOf(1));
  EXPECT_TRUE(listener->Reaches(1));
  const uint64_t before = hub.PublishedProgress("a")->version;
  hub.ClearProgress("a");
  hub.SetProgress("a", ProgressOf(2));
  EXPECT_TRUE(listener->Reaches(2));
  EXPECT_GT(hub.PublishedProgress("a")->version, before);
}

TEST(EventHub, ListenersThatAreGoneAreForgotten) {
  EventHub hub;
  for (int i = 0; i < 1000; ++i)
    hub.Listen("nobody " + std::to_string(i), std::make_shared<Counter>());
  const auto listener = std::make_shared<Counter>();
  hub.Listen("a", listener);
  hub.EventsStored("nobody 3");
  hub.EventsStored("a");
  EXPECT_TRUE(listener->Reaches(1));
}

TEST(EventHub, CloseTellsEverybody) {
  EventHub hub;
  const auto a = std::make_shared<Counter>();
  const auto b = std::make_shared<Counter>();
  hub.Listen("a", a);
  hub.Listen("b", b);
  EXPECT_FALSE(hub.closed());
  hub.Close();
  EXPECT_TRUE(hub.closed());
  EXPECT_TRUE(a->Reaches(1));
  EXPECT_TRUE(b->Reaches(1));
}

TEST(EventHub, KnowsWhyAJobWaits) {
  EventHub hub;
  EXPECT_EQ(hub.Reason("a"), "");
  hub.SetReason("a", "waits for the disk");
  EXPECT_EQ(hub.Reason("a"), "waits for the disk");
  EXPECT_EQ(hub.Reason("b"), "");
  hub.SetReason("a", "");
  EXPECT_EQ(hub.Reason("a"), "");
}

}  // namespace
}  // namespace imageddpo
