// NCCL's logic over a stand-in for NCCL: the conformance suite, and what NCCL does when it fails.

#include "common/comm/nccl/nccl_communicator.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <tuple>

#include "common/comm/mailbox/thread_communicator.h"
#include "tests/dist/conformance_group.h"
#include "tests/testing/all_ranks.h"
#include "tests/testing/exchange/exchange_cases.h"
#include "tests/testing/fake_nccl.h"

namespace imageddpo {
namespace {

class NcclConformance : public testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(NcclConformance, Holds) {
  const auto& [conformance_case, world_size] = GetParam();
  FakeNccl nccl(world_size);
  if (world_size % 2 == 0) {
    nccl.StayInProgress(2);
  }
  RunOnThreads(conformance_case, nccl.MakeCommunicators());
  const FakeNccl::Counts counts = nccl.counts();
  EXPECT_TRUE(counts.one_thread_per_device);
  EXPECT_LE(counts.most_kernels, 1);
  EXPECT_EQ(counts.mismatches, 0);
  EXPECT_EQ(counts.comms_alive, 0);
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclConformance,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Range(1, 9)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

INSTANTIATE_TEST_SUITE_P(NcclOfATraining, NcclConformance,
                         testing::Combine(testing::ValuesIn(ExchangeCases()),
                                          testing::Values(1, 2, 3, 5, 8)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

using std::chrono::milliseconds;
using Kind = CommError::Kind;

constexpr milliseconds kTimeout{20'000};

at::Tensor Ones(std::int64_t size) { return at::ones({size}, at::kFloat); }

/// How a work ends; fails unless it does so with an error.
CommError ErrorOf(Work& work) {
  try {
    work.Wait(kTimeout);
  } catch (const CommError& error) {
    return error;
  }
  ADD_FAILURE() << "ended well";
  return {Kind::kTransport, ""};
}

/// A transfer from rank 0 to rank 1, after which their communicator exists.
void Exchange(Communicator& from, Communicator& to) {
  const auto receive = to.Recv(Ones(10), from.rank(), 0);
  const auto send = from.Send(Ones(10), to.rank(), 0);
  receive->Wait(kTimeout);
  send->Wait(kTimeout);
}

TEST(NcclCommunicator, OneCommunicatorForEachPairAndOneForCollectives) {
  FakeNccl nccl(3);
  const auto group = nccl.MakeCommunicators();
  EXPECT_EQ(nccl.counts().comms_made, 0);
  Exchange(*group[0], *group[2]);
  Exchange(*group[2], *group[0]);
  EXPECT_EQ(nccl.counts().comms_made, 2);
  Exchange(*group[0], *group[1]);
  EXPECT_EQ(nccl.counts().comms_made, 4);
  Exchange(*group[1], *group[1]);  // Stays on the device.
  group[0]->SendBytes("over the mailbox", 1, 1);
  EXPECT_EQ(group[1]->RecvBytes(0, 1, kTimeout), "over the mailbox");
  EXPECT_EQ(nccl.counts().comms_made, 4);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::unique_ptr<Work>> works;
    for (const auto& rank : group) {
      works.push_back(rank->Broadcast(Ones(10), 1, AllRanks(*rank)));
    }
    for (const auto& work : works) {
      work->Wait(kTimeout);
    }
    EXPECT_EQ(nccl.counts().comms_made, 7);
  }
}

TEST(NcclCommunicator, NothingIsQueuedBeforeBothHaveCome) {
  FakeNccl nccl(2);
  const auto group = nccl.MakeCommunicators();
  Exchange(*group[0], *group[1]);
  const auto send = group[0]->Send(Ones(10), 1, 3);
  const auto other = group[1]->Recv(Ones(10), 0, 4);
  EXPECT_THROW(send->Wait(milliseconds(50)), CommError);
  // Neither blocks its device, so transfers with other tags continue.
  Exchange(*group[1], *group[0]);
  EXPECT_FALSE(send->Done());
  const auto receive = group[1]->Recv(Ones(10), 0, 3);
  receive->Wait(kTimeout);
  send->Wait(kTimeout);
  EXPECT_FALSE(other->Done());
}

TEST(NcclCommunicator, ARemoteErrorIsAFailedPeerAndTheGroupHears) {
  FakeNccl nccl(3);
  const auto group = nccl.MakeCommunicators();
  Exchange(*group[0], *group[1]);
  nccl.Hang(1);
  const auto pending = group[2]->Recv(Ones(3), 0, 9);
  const auto receive = group[1]->Recv(Ones(10), 0, 0);
  const auto send = group[0]->Send(Ones(10), 1, 0);
  EXPECT_THROW(send->Wait(milliseconds(50)), CommError);
  nccl.SetState(0, NcclResult::kRemoteError);
  const CommError error = ErrorOf(*send);
  EXPECT_EQ(error.kind(), Kind::kPeerFailed) << error.what();
  EXPECT_NE(std::string(error.what()).find("remote error"), std::string::npos) << error.what();
  for (Work* const other : {receive.get(), pending.get()}) {
    const CommError told = ErrorOf(*other);
    EXPECT_EQ(told.kind(), Kind::kAborted) << told.what();
    EXPECT_NE(std::string(told.what()).find("remote error"), std::string::npos) << told.what();
  }
  // Every later call reports the first failure.
  EXPECT_EQ(ErrorOf(*group[0]->Send(Ones(1), 1, 0)).kind(), Kind::kPeerFailed);
}

TEST(NcclCommunicator, OtherErrorsAreTheTransports) {
  for (const auto state : {NcclResult::kInternalError, NcclResult::kUnhandledCudaError,
                           NcclResult::kSystemError, NcclResult::kInvalidUsage}) {
    FakeNccl nccl(2);
    const auto group = nccl.MakeCommunicators();
    nccl.SetState(1, state);
    const auto receive = group[1]->Recv(Ones(10), 0, 0);
    const auto send = group[0]->Send(Ones(10), 1, 0);
    EXPECT_EQ(ErrorOf(*receive).kind(), Kind::kTransport);
    EXPECT_EQ(ErrorOf(*send).kind(), Kind::kAborted);
  }
}

TEST(NcclCommunicator, ACommunicatorThatIsNeverMadeIsADeadline) {
  FakeNccl nccl(2);
  const auto group = nccl.MakeCommunicators({.setup = milliseconds(200)});
  nccl.StayInProgress(1'000'000'000);
  const auto start = std::chrono::steady_clock::now();
  const auto receive = group[1]->Recv(Ones(10), 0, 0);
  const auto send = group[0]->Send(Ones(10), 1, 0);
  const Kind first = ErrorOf(*receive).kind();
  const Kind second = ErrorOf(*send).kind();
  EXPECT_TRUE(first == Kind::kTimeout || second == Kind::kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(NcclCommunicator, AKernelThatHangsIsADeadlineAndIsAborted) {
  FakeNccl nccl(4);
  const auto group = nccl.MakeCommunicators({.round = milliseconds(200)});
  nccl.Hang(3);
  std::vector<std::unique_ptr<Work>> works;
  for (const auto& rank : group) {
    works.push_back(rank->AllReduceSum(Ones(1000), AllRanks(*rank)));
  }
  int timeouts = 0;
  for (const auto& work : works) {
    const CommError error = ErrorOf(*work);
    timeouts += error.kind() == Kind::kTimeout;
    EXPECT_TRUE(error.kind() == Kind::kTimeout || error.kind() == Kind::kAborted) << error.what();
  }
  EXPECT_GE(timeouts, 1);
  const auto until = std::chrono::steady_clock::now() + kTimeout;
  while (nccl.counts().comms_alive > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_EQ(nccl.counts().comms_alive, 0);
}

TEST(NcclCommunicator, AbortEndsARunningRoundFromAnyThread) {
  FakeNccl nccl(2);
  const auto group = nccl.MakeCommunicators();
  nccl.Hang(0);
  const auto receive = group[1]->Recv(Ones(10), 0, 0);
  const auto send = group[0]->Send(Ones(10), 1, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] { group[static_cast<std::size_t>(i % 2)]->Abort("enough"); });
  }
  for (Work* const work : {receive.get(), send.get()}) {
    const CommError error = ErrorOf(*work);
    EXPECT_EQ(error.kind(), Kind::kAborted) << error.what();
    EXPECT_NE(std::string(error.what()).find("enough"), std::string::npos) << error.what();
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

TEST(NcclCommunicator, ADeadRankEndsARoundThatRuns) {
  FakeNccl nccl(3);
  const auto mailboxes = MakeThreadMailboxes(3);
  std::vector<std::unique_ptr<Communicator>> group;
  for (int rank = 0; rank < 3; ++rank) {
    group.push_back(std::make_unique<NcclCommunicator>(mailboxes[rank], at::kCPU, nccl.Api(rank),
                                                       nccl.Stream(rank)));
  }
  nccl.Hang(2);
  std::vector<std::unique_ptr<Work>> works;
  for (const auto& rank : group) {
    works.push_back(rank->AllGather(at::empty({3, 5}, at::kFloat), Ones(5), AllRanks(*rank)));
  }
  std::this_thread::sleep_for(milliseconds(50));
  for (const int survivor : {0, 1}) {  // As the transport does when it hears of a death.
    mailboxes[survivor]->Fail(Kind::kPeerFailed, "rank 2 is lost");
    const CommError error = ErrorOf(*works[survivor]);
    EXPECT_EQ(error.kind(), Kind::kPeerFailed) << error.what();
  }
}

TEST(NcclCommunicator, ACallThatDoesNotReturnIsADeadline) {
  FakeNccl nccl(2);
  const auto group = nccl.MakeCommunicators({.call = milliseconds(300)});
  Exchange(*group[0], *group[1]);
  nccl.BlockNextCall(0);
  const auto receive = group[1]->Recv(Ones(10), 0, 0);
  const auto send = group[0]->Send(Ones(10), 1, 0);
  const CommError error = ErrorOf(*send);
  EXPECT_EQ(error.kind(), Kind::kTimeout) << error.what();
  EXPECT_NE(std::string(error.what()).find("has not returned"), std::string::npos) << error.what();
  EXPECT_EQ(ErrorOf(*receive).kind(), Kind::kAborted);
  // The watchdog's abort has freed the issuing thread, so closing is not held up.
}

TEST(NcclCommunicator, ACallThatNeverReturnsIsLeftBehind) {
  FakeNccl nccl(2);
  auto group = nccl.MakeCommunicators({.call = milliseconds(200), .close = milliseconds(1500)});
  nccl.BlockNextCall(0, /*for_ever=*/true);
  const auto receive = group[1]->Recv(Ones(10), 0, 0);
  const auto send = group[0]->Send(Ones(10), 1, 0);
  EXPECT_EQ(ErrorOf(*send).kind(), Kind::kTimeout);
  EXPECT_EQ(ErrorOf(*receive).kind(), Kind::kAborted);
  const auto start = std::chrono::steady_clock::now();
  group.clear();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  nccl.Release();
  std::this_thread::sleep_for(milliseconds(100));  // For the thread that was left behind.
}

TEST(NcclCommunicator, ClosingOneEndDoesNotDisturbTheOthers) {
  FakeNccl nccl(3);
  auto group = nccl.MakeCommunicators();
  Exchange(*group[2], *group[0]);
  group[2].reset();
  Exchange(*group[0], *group[1]);
  Exchange(*group[1], *group[0]);
}

}  // namespace
}  // namespace imageddpo
