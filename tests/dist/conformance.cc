#include "tests/dist/conformance.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

namespace imageddpo {
namespace {

constexpr auto kTimeout = kConformanceTimeout;

const std::vector<at::ScalarType> kDtypes = {at::kFloat, at::kDouble, at::kLong,
                                             at::kByte,  at::kBool,   at::kBFloat16};
// Nothing, one, odd ones, more than an envelope holds, more than an eager message.
const std::vector<std::int64_t> kSizes = {0, 1, 7, 1001, 65'537};

/// [size], a pattern that differs by `seed` and survives every dtype.
at::Tensor Pattern(std::int64_t size, at::ScalarType dtype, int seed) {
  const int values = dtype == at::kBool ? 2 : 19;
  return at::arange(size, at::kLong).mul(7).add(seed * 3).remainder(values).to(dtype);
}

void EveryPairInEveryDtypeAndSize(Communicator& group) {
  const int self = group.rank();
  for (const auto dtype : kDtypes) {
    for (const auto size : kSizes) {
      std::vector<std::unique_ptr<Work>> works;
      std::vector<at::Tensor> received;
      for (int peer = 0; peer < group.world_size(); ++peer) {  // Itself too.
        received.push_back(at::zeros({size}, dtype));
        works.push_back(group.Recv(received.back(), peer, 5));
        works.push_back(group.Send(Pattern(size, dtype, self * 31 + peer), peer, 5));
      }
      for (const auto& work : works) {
        work->Wait(kTimeout);
        EXPECT_TRUE(work->Done());
      }
      for (int peer = 0; peer < group.world_size(); ++peer) {
        EXPECT_TRUE(at::equal(received[static_cast<std::size_t>(peer)],
                              Pattern(size, dtype, peer * 31 + self)))
            << "from " << peer << ", " << size << " elements of " << toString(dtype);
      }
    }
  }
}

void MessagesOfOneTagKeepTheirOrder(Communicator& group) {
  constexpr int kMessages = 40;
  const int next = (group.rank() + 1) % group.world_size();
  const int previous = (group.rank() + group.world_size() - 1) % group.world_size();
  std::vector<std::unique_ptr<Work>> sends;
  for (int i = 0; i < kMessages; ++i) {  // Small and large in turn.
    sends.push_back(group.Send(at::full({i % 2 == 0 ? 3 : 5000}, i, at::kFloat), next, 1));
    sends.push_back(group.Send(at::full({2}, -i, at::kFloat), next, 2));
  }
  for (int i = 0; i < kMessages; ++i) {  // The other tag first: tags do not block each other.
    const at::Tensor small = at::empty({2}, at::kFloat);
    group.Recv(small, previous, 2)->Wait(kTimeout);
    EXPECT_EQ(small.data_ptr<float>()[1], static_cast<float>(-i));
  }
  for (int i = 0; i < kMessages; ++i) {
    const at::Tensor tensor = at::empty({i % 2 == 0 ? 3 : 5000}, at::kFloat);
    group.Recv(tensor, previous, 1)->Wait(kTimeout);
    EXPECT_EQ(tensor.data_ptr<float>()[2], static_cast<float>(i));
  }
  for (const auto& send : sends) {
    send->Wait(kTimeout);
  }
}

void BytesOfUnknownLength(Communicator& group) {
  const int next = (group.rank() + 1) % group.world_size();
  const int previous = (group.rank() + group.world_size() - 1) % group.world_size();
  for (const std::size_t size : {0U, 1U, 333U, 1'000'003U}) {
    group.SendBytes(std::string(size, static_cast<char>('a' + group.rank())), next, 9);
    const std::string bytes = group.RecvBytes(previous, 9, kTimeout);
    EXPECT_EQ(bytes, std::string(size, static_cast<char>('a' + previous)));
  }
}

void AllReduceAddsInRankOrder(Communicator& group) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const auto size : kSizes) {
      const auto value_of = [&](int rank) {  // Sums that depend on the order of the additions.
        return Pattern(size, dtype, rank).div(3).mul(rank % 2 == 0 ? 1e6 : 1e-3);
      };
      at::Tensor expected = value_of(0).clone();
      for (int rank = 1; rank < group.world_size(); ++rank) {
        expected.add_(value_of(rank));
      }
      const at::Tensor tensor = value_of(group.rank()).clone();
      group.AllReduceSum(tensor)->Wait(kTimeout);
      EXPECT_TRUE(at::equal(tensor, expected)) << size << " elements of " << toString(dtype);
    }
  }
  EXPECT_THROW(group.AllReduceSum(at::zeros({3}, at::kLong)), std::invalid_argument);
}

void AllGatherInRankOrder(Communicator& group) {
  for (const auto dtype : kDtypes) {
    for (const auto size : kSizes) {
      const at::Tensor output = at::zeros({group.world_size(), size}, dtype);
      group.AllGather(output, Pattern(size, dtype, group.rank()))->Wait(kTimeout);
      for (int rank = 0; rank < group.world_size(); ++rank) {
        EXPECT_TRUE(at::equal(output.select(0, rank), Pattern(size, dtype, rank)))
            << "of " << rank << ", " << size << " elements of " << toString(dtype);
      }
    }
  }
  const at::Tensor wrong = at::zeros({group.world_size() + 1, 3}, at::kFloat);
  EXPECT_THROW(group.AllGather(wrong, at::zeros({3}, at::kFloat)), std::invalid_argument);
}

void BroadcastFromEveryRoot(Communicator& group) {
  for (int root = 0; root < group.world_size(); ++root) {
    for (const auto dtype : kDtypes) {
      for (const auto size : kSizes) {
        const at::Tensor tensor = Pattern(size, dtype, group.rank());
        group.Broadcast(tensor, root)->Wait(kTimeout);
        EXPECT_TRUE(at::equal(tensor, Pattern(size, dtype, root)))
            << "root " << root << ", " << size << " elements of " << toString(dtype);
      }
    }
  }
}

void SeveralCollectivesUnderWay(Communicator& group) {
  const int size = group.world_size();
  const at::Tensor sum_a = at::full({10'001}, group.rank() + 1, at::kFloat);
  const at::Tensor sum_b = at::full({3}, 2.0, at::kDouble);
  const at::Tensor gathered = at::zeros({size, 4}, at::kLong);
  const at::Tensor sent = at::full({6000}, group.rank(), at::kFloat);
  const auto work_a = group.AllReduceSum(sum_a);
  const auto work_b = group.AllReduceSum(sum_b);
  const auto work_c = group.AllGather(gathered, at::full({4}, group.rank(), at::kLong));
  const auto work_d = group.Broadcast(sent, size - 1);
  work_d->Wait(kTimeout);  // In another order than they were started.
  work_b->Wait(kTimeout);
  work_c->Wait(kTimeout);
  work_a->Wait(kTimeout);
  EXPECT_EQ(sum_a.data_ptr<float>()[10'000], static_cast<float>(size * (size + 1)) / 2);
  EXPECT_EQ(sum_b.data_ptr<double>()[2], 2.0 * size);
  EXPECT_EQ(gathered.data_ptr<std::int64_t>()[4 * (size - 1)], size - 1);
  EXPECT_EQ(sent.data_ptr<float>()[5999], static_cast<float>(size - 1));
}

void WorkThatIsDroppedStillArrives(Communicator& group) {
  const int next = (group.rank() + 1) % group.world_size();
  const int previous = (group.rank() + group.world_size() - 1) % group.world_size();
  group.Send(at::full({100'000}, group.rank(), at::kFloat), next, 3);  // Work and tensor dropped.
  const at::Tensor tensor = at::zeros({100'000}, at::kFloat);
  group.Recv(tensor, previous, 3)->Wait(kTimeout);
  EXPECT_EQ(tensor.data_ptr<float>()[99'999], static_cast<float>(previous));
}

void MistakesAreErrorsOfTheirOwn(Communicator& group) {
  const at::Tensor tensor = at::zeros({4, 6}, at::kFloat);
  EXPECT_THROW(group.Send(tensor, group.world_size(), 0), std::invalid_argument);
  EXPECT_THROW(group.Recv(tensor, -1, 0), std::invalid_argument);
  EXPECT_THROW(group.Send(tensor.t(), 0, 0), std::invalid_argument);
  EXPECT_THROW(group.Broadcast(tensor, group.world_size()), std::invalid_argument);
  // Size and dtype are the sender's.
  for (const at::Tensor& other : {at::zeros({25}, at::kFloat), at::zeros({24}, at::kInt)}) {
    const auto send = group.Send(tensor, group.rank(), 4);
    const auto receive = group.Recv(other, group.rank(), 4);
    try {
      receive->Wait(kTimeout);
      ADD_FAILURE() << "received into a tensor of another size or dtype";
    } catch (const CommError& error) {
      EXPECT_EQ(error.kind(), CommError::Kind::kTransport) << error.what();
    }
  }
}

void AWaitEndsAtItsDeadline(Communicator& group) {
  const at::Tensor tensor = at::zeros({3}, at::kFloat);
  const auto receive = group.Recv(tensor, group.rank(), 77);
  const auto start = std::chrono::steady_clock::now();
  try {
    receive->Wait(std::chrono::milliseconds(100));
    ADD_FAILURE() << "received what nobody sent";
  } catch (const CommError& error) {
    EXPECT_EQ(error.kind(), CommError::Kind::kTimeout) << error.what();
  }
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited, std::chrono::milliseconds(100));
  EXPECT_LT(waited, std::chrono::seconds(5));
  EXPECT_FALSE(receive->Done());
  group.Send(tensor, group.rank(), 77);  // It is still under way, and ends.
  receive->Wait(kTimeout);
}

/// Last: the group is of no use afterwards.
void AbortOnOneRankEndsTheWaitsOfAll(Communicator& group) {
  const at::Tensor tensor = at::zeros({3}, at::kFloat);
  const auto receive = group.Recv(tensor, group.rank(), 78);
  if (group.rank() == group.world_size() - 1) {
    group.Abort("a test");
    group.Abort("again");
  }
  const auto expect_aborted = [](Work& work) {
    try {
      work.Wait(kTimeout);
      ADD_FAILURE() << "a work of an aborted group ended well";
    } catch (const CommError& error) {
      EXPECT_EQ(error.kind(), CommError::Kind::kAborted) << error.what();
      EXPECT_NE(std::string(error.what()).find("a test"), std::string::npos) << error.what();
    }
  };
  expect_aborted(*receive);
  expect_aborted(*group.Send(tensor, 0, 78));
  expect_aborted(*group.Recv(tensor, 0, 79));
  if (group.world_size() > 1) {
    expect_aborted(*group.AllReduceSum(at::zeros({30}, at::kFloat)));
  }
}

}  // namespace

std::vector<ConformanceCase> ConformanceCases() {
  return {{"EveryPairInEveryDtypeAndSize", EveryPairInEveryDtypeAndSize},
          {"MessagesOfOneTagKeepTheirOrder", MessagesOfOneTagKeepTheirOrder},
          {"BytesOfUnknownLength", BytesOfUnknownLength},
          {"AllReduceAddsInRankOrder", AllReduceAddsInRankOrder},
          {"AllGatherInRankOrder", AllGatherInRankOrder},
          {"BroadcastFromEveryRoot", BroadcastFromEveryRoot},
          {"SeveralCollectivesUnderWay", SeveralCollectivesUnderWay},
          {"WorkThatIsDroppedStillArrives", WorkThatIsDroppedStillArrives},
          {"MistakesAreErrorsOfTheirOwn", MistakesAreErrorsOfTheirOwn},
          {"AWaitEndsAtItsDeadline", AWaitEndsAtItsDeadline},
          {"AbortOnOneRankEndsTheWaitsOfAll", AbortOnOneRankEndsTheWaitsOfAll}};
}

}  // namespace imageddpo
