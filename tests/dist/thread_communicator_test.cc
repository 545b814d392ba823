#include "common/comm/mailbox/thread_communicator.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <memory>
#include <tuple>

#include "common/comm/counted_communicator.h"
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

TEST(CountedCommunicator, CountsWhatGoesToOthers) {
  auto group = MakeThreadCommunicators(2);
  const auto sent = std::make_shared<SentBytes>();
  CountedCommunicator counted(std::move(group[0]), sent);
  const std::chrono::milliseconds timeout(5000);
  counted.SendBytes("1234567", 1, 1);
  EXPECT_EQ(group[1]->RecvBytes(0, 1, timeout), "1234567");
  counted.SendBytes("to itself", 0, 2);
  EXPECT_EQ(counted.RecvBytes(0, 2, timeout), "to itself");
  EXPECT_EQ(sent->messages, 7);
  const at::Tensor ten = at::zeros({10}, at::kFloat), received = at::zeros({10}, at::kFloat);
  const auto work = counted.Send(ten, 1, 3);
  group[1]->Recv(received, 0, 3)->Wait(timeout);
  work->Wait(timeout);
  EXPECT_EQ(sent->messages, 47);
  EXPECT_EQ(sent->nccl, 0);
  EXPECT_EQ(counted.world_size(), 2);
}

}  // namespace
}  // namespace imageddpo
