#include "common/comm/thread_communicator.h"

#include <gtest/gtest.h>

#include <thread>
#include <tuple>

#include "tests/dist/conformance.h"

namespace imageddpo {
namespace {

class ThreadConformance : public testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(ThreadConformance, Holds) {
  const auto& [conformance_case, world_size] = GetParam();
  const auto group = MakeThreadCommunicators(world_size);
  std::vector<std::thread> threads;
  for (const auto& communicator : group) {
    EXPECT_EQ(communicator->world_size(), world_size);
    threads.emplace_back([&communicator, run = conformance_case.run] { run(*communicator); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadConformance,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Values(1, 2, 3, 4, 5, 8)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(ThreadCommunicator, ClosingOneEndDoesNotDisturbTheOthers) {
  auto group = MakeThreadCommunicators(3);
  group[2].reset();
  group[0]->SendBytes("to nobody", 2, 1)->Wait(std::chrono::milliseconds(1000));
  group[0]->SendBytes("hello", 1, 1);
  EXPECT_EQ(group[1]->RecvBytes(0, 1, std::chrono::milliseconds(1000)), "hello");
}

}  // namespace
}  // namespace imageddpo
