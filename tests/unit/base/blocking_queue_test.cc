#include "common/base/blocking_queue.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kLong = absl::Seconds(60);

TEST(BlockingQueue, KeepsTheOrderOfEachThread) {
  constexpr int kThreads = 4, kItems = 500;
  BlockingQueue<std::pair<int, int>> queue;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&queue, thread] {
      for (int i = 0; i < kItems; ++i) queue.Put({thread, i});
    });
  }
  std::vector<int> next(kThreads, 0);
  for (int i = 0; i < kThreads * kItems; ++i) {
    const auto item = queue.Take(kLong);
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->second, next[static_cast<size_t>(item->first)]++);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(queue.Take(absl::ZeroDuration()).has_value());
}

TEST(BlockingQueue, TakesAllThatIsThere) {
  BlockingQueue<std::unique_ptr<int>> queue;  // Items need not be copied.
  for (const int number : {1, 2, 3}) EXPECT_TRUE(queue.Put(std::make_unique<int>(number)));
  std::vector<int> numbers;
  for (const auto& item : queue.TakeAll(kLong)) numbers.push_back(*item);
  EXPECT_THAT(numbers, ElementsAre(1, 2, 3));
  EXPECT_THAT(queue.TakeAll(absl::ZeroDuration()), IsEmpty());
}

TEST(BlockingQueue, WaitsUpToTheTimeout) {
  BlockingQueue<int> queue;
  const absl::Time start = absl::Now();
  EXPECT_FALSE(queue.Take(absl::Milliseconds(30)).has_value());
  EXPECT_THAT(queue.TakeAll(absl::Milliseconds(30)), IsEmpty());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(50));
}

TEST(BlockingQueue, AnItemWakesTheThreadThatWaits) {
  BlockingQueue<std::string> queue;
  std::thread thread([&queue] {
    absl::SleepFor(absl::Milliseconds(20));
    queue.Put("here");
  });
  EXPECT_EQ(queue.Take(kLong), "here");
  thread.join();
}

TEST(BlockingQueue, ClosingWakesAndDropsOnlyWhatComesLater) {
  BlockingQueue<int> queue;
  std::thread thread([&queue] {
    absl::SleepFor(absl::Milliseconds(20));
    queue.Close();
  });
  const absl::Time start = absl::Now();
  EXPECT_FALSE(queue.Take(kLong).has_value());
  thread.join();
  EXPECT_LT(absl::Now() - start, kLong);
  EXPECT_TRUE(queue.closed());

  BlockingQueue<int> filled;
  EXPECT_TRUE(filled.Put(1));
  filled.Close();
  EXPECT_FALSE(filled.Put(2));
  EXPECT_EQ(filled.Take(kLong), 1);
  EXPECT_FALSE(filled.Take(kLong).has_value());
}

}  // namespace
}  // namespace imageddpo
