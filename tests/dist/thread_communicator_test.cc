#include "common/comm/mailbox/thread_communicator.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/dist/conformance_group.h"
#include "tests/testing/exchange/exchange_cases.h"

namespace imageddpo {
namespace {

class ThreadConformance : public testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(ThreadConformance, Holds) {
  const auto& [conformance_case, world_size] = GetParam();
  RunOnThreads(conformance_case, MakeThreadCommunicators(world_size));
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadConformance,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Range(1, 9)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

INSTANTIATE_TEST_SUITE_P(ThreadsOfATraining, ThreadConformance,
                         testing::Combine(testing::ValuesIn(ExchangeCases()),
                                          testing::Values(1, 2, 3, 5, 8)),
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
