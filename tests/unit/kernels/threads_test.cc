#include "common/kernels/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace imageddpo {
namespace {

class Threads : public testing::Test {
 protected:
  Threads() { UseThreads(2); }
};

TEST_F(Threads, EveryPartIsDoneOnce) {
  for (const int64_t count : {0, 1, 2, 7, 16, 1000}) {
    std::vector<std::atomic<int>> done(count);
    ParallelFor(count, [&](int64_t begin, int64_t end) {
      EXPECT_LT(begin, end);
      for (int64_t i = begin; i < end; ++i) ++done[i];
    });
    for (const std::atomic<int>& times : done) EXPECT_EQ(times, 1) << count;
  }
}

TEST_F(Threads, TwoWorkAtATime) {
  // Each waits for the other, which would never happen on a single thread.
  std::atomic<int> arrived = 0;
  std::atomic<bool> first = false, second = false;
  ParallelFor(2, [&](int64_t /*begin*/, int64_t /*end*/) {
    (ThreadIndex() == 0 ? first : second) = true;
    ++arrived;
    const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2 && std::chrono::steady_clock::now() < late) std::this_thread::yield();
  });
  EXPECT_EQ(ThreadCount(), 2);
  EXPECT_EQ(arrived, 2);
  EXPECT_TRUE(first && second);
}

TEST_F(Threads, ALoopWithinALoopRunsWhereItIs) {
  std::atomic<int> done = 0;
  ParallelFor(4, [&](int64_t begin, int64_t end) {
    const std::thread::id here = std::this_thread::get_id();
    ParallelFor((end - begin) * 10, [&](int64_t inner_begin, int64_t inner_end) {
      EXPECT_EQ(std::this_thread::get_id(), here);
      done += static_cast<int>(inner_end - inner_begin);
    });
  });
  EXPECT_EQ(done, 40);
}

TEST_F(Threads, WhatATaskThrowsComesOut) {
  EXPECT_THROW(ParallelFor(8,
                           [](int64_t begin, int64_t end) {
                             if (begin <= 5 && 5 < end) throw std::runtime_error("no memory");
                           }),
               std::runtime_error);
}

}  // namespace
}  // namespace imageddpo
