// Conformance cases: the right data arrive, in the right order.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/testing/conformance/conformance_tools.h"

namespace imageddpo {
namespace {

using Group = std::unique_ptr<Communicator>;
using Works = std::vector<std::unique_ptr<Work>>;

at::Tensor Empty(const Communicator& group, at::IntArrayRef shape, at::ScalarType dtype) {
  return at::empty(shape, at::TensorOptions().dtype(dtype).device(group.device()));
}

void EveryPairInEveryDtypeAndSize(Group group, Findings& findings) {
  const int self = group->rank();
  for (const auto dtype : kConformanceDtypes) {
    for (const auto size : kConformanceSizes) {
      Works works;
      std::vector<at::Tensor> received;
      for (int peer = 0; peer < group->world_size(); ++peer) {  // Itself too.
        received.push_back(Filled(*group, size, 0, dtype));
        works.push_back(group->Recv(received.back(), peer, 5));
        works.push_back(group->Send(Pattern(*group, size, dtype, self * 31 + peer), peer, 5));
      }
      WaitAll(works);
      for (int peer = 0; peer < group->world_size(); ++peer) {
        findings.Expect(works[static_cast<std::size_t>(2 * peer)]->Done(), "not done after Wait()");
        findings.Expect(Same(received[static_cast<std::size_t>(peer)],
                             Pattern(*group, size, dtype, peer * 31 + self)),
                        absl::StrCat("from ", peer, ", ", Describe(size, dtype)));
      }
    }
  }
}

void MessagesOfOneTagKeepTheirOrder(Group group, Findings& findings) {
  constexpr int kMessages = 40;
  const int next = Next(*group);
  const int previous = Previous(*group);
  Works sends;
  for (int i = 0; i < kMessages; ++i) {  // Small and large in turn.
    sends.push_back(group->Send(Filled(*group, i % 2 == 0 ? 3 : 5000, i), next, 1));
    sends.push_back(group->Send(Filled(*group, 2, -i), next, 2));
  }
  for (int i = 0; i < kMessages; ++i) {  // The other tag first: tags do not block each other.
    const at::Tensor small = Empty(*group, {2}, at::kFloat);
    group->Recv(small, previous, 2)->Wait(kConformanceTimeout);
    findings.Expect(Same(small, Filled(*group, 2, -i)), absl::StrCat("tag 2, message ", i));
  }
  for (int i = 0; i < kMessages; ++i) {
    const std::int64_t size = i % 2 == 0 ? 3 : 5000;
    const at::Tensor tensor = Empty(*group, {size}, at::kFloat);
    group->Recv(tensor, previous, 1)->Wait(kConformanceTimeout);
    findings.Expect(Same(tensor, Filled(*group, size, i)), absl::StrCat("tag 1, message ", i));
  }
  WaitAll(sends);
}

/// Each rank starts all transfers, with all ranks and with itself, before it waits for any;
/// receives are started in another order of tags than sends.
void ManyOutstanding(Group group, Findings& findings) {
  constexpr int kTags = 24;
  Works works;
  std::vector<at::Tensor> received;
  const auto value = [](int from, int to, int tag) { return from * 10'000 + to * 100 + tag; };
  for (int tag = 0; tag < kTags; ++tag) {
    for (int peer = 0; peer < group->world_size(); ++peer) {
      works.push_back(
          group->Send(Filled(*group, 50 + tag, value(group->rank(), peer, tag)), peer, tag));
    }
  }
  for (int tag = kTags - 1; tag >= 0; --tag) {
    for (int peer = group->world_size() - 1; peer >= 0; --peer) {
      received.push_back(Empty(*group, {50 + tag}, at::kFloat));
      works.push_back(group->Recv(received.back(), peer, tag));
    }
  }
  WaitAll(works);
  std::size_t index = 0;
  for (int tag = kTags - 1; tag >= 0; --tag) {
    for (int peer = group->world_size() - 1; peer >= 0; --peer, ++index) {
      findings.Expect(
          Same(received[index], Filled(*group, 50 + tag, value(peer, group->rank(), tag))),
          absl::StrCat("from ", peer, ", tag ", tag));
    }
  }
}

/// A ring in which every rank sends and then receives, and at the same time a ring in the other
/// direction. It deadlocks if a device can only do one transfer at a time.
void RingsBothWays(Group group, Findings& findings) {
  for (int round = 0; round < 10; ++round) {
    const at::Tensor left = Empty(*group, {3000}, at::kFloat);
    const at::Tensor right = Empty(*group, {3000}, at::kFloat);
    Works works;
    works.push_back(group->Recv(left, Previous(*group), 1));
    works.push_back(group->Send(Filled(*group, 3000, group->rank()), Next(*group), 1));
    works.push_back(group->Send(Filled(*group, 3000, -group->rank()), Previous(*group), 2));
    works.push_back(group->Recv(right, Next(*group), 2));
    WaitAll(works);
    findings.Expect(Same(left, Filled(*group, 3000, Previous(*group))), "from the left");
    findings.Expect(Same(right, Filled(*group, 3000, -Next(*group))), "from the right");
  }
}

void BytesOfUnknownLength(Group group, Findings& findings) {
  for (const std::size_t size : {0U, 1U, 333U, 1'000'003U}) {
    group->SendBytes(std::string(size, static_cast<char>('a' + group->rank())), Next(*group), 9);
    const std::string bytes = group->RecvBytes(Previous(*group), 9, kConformanceTimeout);
    findings.Expect(bytes == std::string(size, static_cast<char>('a' + Previous(*group))),
                    absl::StrCat(size, " bytes"));
  }
}

/// Within rounding of the sum, and the same bits on all ranks.
void AllReduceSums(Group group, Findings& findings) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const auto size : kConformanceSizes) {
      const auto value_of = [&](int rank) {  // Sums that depend on the order of the additions.
        return Pattern(*group, size, dtype, rank).div(3).mul(rank % 2 == 0 ? 1e6 : 1e-3);
      };
      at::Tensor expected = value_of(0).to(at::kDouble);
      for (int rank = 1; rank < group->world_size(); ++rank) {
        expected.add_(value_of(rank).to(at::kDouble));
      }
      const at::Tensor tensor = value_of(group->rank()).clone();
      group->AllReduceSum(tensor, AllRanks(*group))->Wait(kConformanceTimeout);
      const double tolerance = (dtype == at::kFloat ? 1e-6 : 1e-14) * group->world_size();
      const at::Tensor error = tensor.to(at::kDouble).sub(expected).abs();
      const bool close = error.le(expected.abs().mul(tolerance)).all().item().toBool();
      findings.Expect(close, absl::StrCat("the sum of ", Describe(size, dtype)));
      const at::Tensor all = Empty(*group, {group->world_size(), size}, dtype);
      group->AllGather(all, tensor, AllRanks(*group))->Wait(kConformanceTimeout);
      for (int rank = 0; rank < group->world_size(); ++rank) {
        findings.Expect(Same(all.select(0, rank), tensor),
                        absl::StrCat("rank ", rank, " has other bits, ", Describe(size, dtype)));
      }
    }
  }
  ExpectRefused(findings, "a sum of integers",
                [&] { group->AllReduceSum(Filled(*group, 3, 0, at::kLong), AllRanks(*group)); });
}

void AllGatherInRankOrder(Group group, Findings& findings) {
  for (const auto dtype : kConformanceDtypes) {
    for (const auto size : kConformanceSizes) {
      const at::Tensor output = Empty(*group, {group->world_size(), size}, dtype);
      group->AllGather(output, Pattern(*group, size, dtype, group->rank()), AllRanks(*group))
          ->Wait(kConformanceTimeout);
      for (int rank = 0; rank < group->world_size(); ++rank) {
        findings.Expect(Same(output.select(0, rank), Pattern(*group, size, dtype, rank)),
                        absl::StrCat("of ", rank, ", ", Describe(size, dtype)));
      }
    }
  }
  const at::Tensor wrong = Empty(*group, {group->world_size() + 1, 3}, at::kFloat);
  ExpectRefused(findings, "an output of another shape",
                [&] { group->AllGather(wrong, Filled(*group, 3, 0), AllRanks(*group)); });
}

void BroadcastFromEveryRoot(Group group, Findings& findings) {
  for (int root = 0; root < group->world_size(); ++root) {
    for (const auto dtype : kConformanceDtypes) {
      // Every size from some root, every root in some size.
      for (std::size_t i = 0; i < kConformanceSizes.size(); ++i) {
        if (group->world_size() > 3 && static_cast<int>(i % 3) != root % 3) {
          continue;
        }
        const auto size = kConformanceSizes[i];
        const at::Tensor tensor = Pattern(*group, size, dtype, group->rank());
        group->Broadcast(tensor, root, AllRanks(*group))->Wait(kConformanceTimeout);
        findings.Expect(Same(tensor, Pattern(*group, size, dtype, root)),
                        absl::StrCat("root ", root, ", ", Describe(size, dtype)));
      }
    }
  }
}

void SeveralCollectivesUnderWay(Group group, Findings& findings) {
  const int size = group->world_size();
  const at::Tensor sum_a = Filled(*group, 10'001, group->rank() + 1);
  const at::Tensor sum_b = Filled(*group, 3, 2.0, at::kDouble);
  const at::Tensor gathered = Empty(*group, {size, 4}, at::kLong);
  const at::Tensor sent = Filled(*group, 6000, group->rank());
  const auto work_a = group->AllReduceSum(sum_a, AllRanks(*group));
  const auto work_b = group->AllReduceSum(sum_b, AllRanks(*group));
  const auto work_c =
      group->AllGather(gathered, Filled(*group, 4, group->rank(), at::kLong), AllRanks(*group));
  const auto work_d = group->Broadcast(sent, size - 1, AllRanks(*group));
  work_d->Wait(kConformanceTimeout);  // In another order than they were started.
  work_b->Wait(kConformanceTimeout);
  work_c->Wait(kConformanceTimeout);
  work_a->Wait(kConformanceTimeout);
  findings.Expect(Same(sum_a, Filled(*group, 10'001, 0.5 * size * (size + 1))), "first sum");
  findings.Expect(Same(sum_b, Filled(*group, 3, 2.0 * size, at::kDouble)), "second sum");
  for (int rank = 0; rank < size; ++rank) {
    findings.Expect(Same(gathered.select(0, rank), Filled(*group, 4, rank, at::kLong)), "gather");
  }
  findings.Expect(Same(sent, Filled(*group, 6000, size - 1)), "broadcast");
}

/// Every three neighbours have a collective of their own, so each rank takes part in three; some
/// ranks start them in another order.
void CollectivesOfSomeRanks(Group group, Findings& findings) {
  struct Started {
    RankGroup ranks;
    at::Tensor tensor;  // What is summed or broadcast.
    at::Tensor gathered;
  };
  std::vector<Started> started;
  const int self = group->rank();
  for (int first = 0; first < group->world_size(); ++first) {
    RankGroup ranks{.tag = first};
    for (int rank = first; rank < std::min(first + 3, group->world_size()); ++rank) {
      ranks.ranks.push_back(rank);
    }
    if (self < first || self > ranks.ranks.back()) continue;
    const at::Tensor tensor = Filled(*group, 5001, self + 1);
    started.push_back({ranks, tensor, Empty(*group, {ranks.size(), 5001}, at::kFloat)});
  }
  if (self % 2 != 0) std::reverse(started.begin(), started.end());
  Works works;
  for (int round = 0; round < 2; ++round) {  // The second has the same groups and tags.
    for (const auto& [ranks, tensor, gathered] : started) {
      works.push_back(group->AllGather(gathered, Filled(*group, 5001, self + 1), ranks));
      if (ranks.tag % 2 == round) {
        works.push_back(group->Broadcast(tensor, ranks.ranks.back(), ranks));
      } else {
        works.push_back(group->AllReduceSum(tensor, ranks));
      }
    }
    WaitAll(works);
    works.clear();
    for (const auto& [ranks, tensor, gathered] : started) {
      const std::string what = absl::StrCat("the group from ", ranks.tag, " on, round ", round);
      double value = ranks.ranks.back() + 1;
      if (ranks.tag % 2 != round) {
        value = 0;
        for (const int rank : ranks.ranks) value += rank + 1;
      }
      findings.Expect(Same(tensor, Filled(*group, 5001, value)), what);
      tensor.fill_(self + 1);
      for (int i = 0; i < ranks.size(); ++i) {
        findings.Expect(Same(gathered.select(0, i), Filled(*group, 5001, ranks.ranks[i] + 1)),
                        what + ", gathered");
      }
    }
  }
}

/// Transfers and collectives at once, started in another order on every rank.
void CollectivesAmongTransfers(Group group, Findings& findings) {
  const int next = Next(*group);
  const int previous = Previous(*group);
  for (int round = 0; round < 4; ++round) {
    const at::Tensor received = Empty(*group, {2000}, at::kFloat);
    const at::Tensor sum = Filled(*group, 777, 1);
    Works works;
    if (group->rank() % 2 == 0) {
      works.push_back(group->AllReduceSum(sum, AllRanks(*group)));
    }
    works.push_back(group->Send(Filled(*group, 2000, group->rank()), next, round));
    works.push_back(group->Recv(received, previous, round));
    works.back()->Wait(kConformanceTimeout);  // Some have not come to the collective yet.
    if (group->rank() % 2 != 0) {
      works.push_back(group->AllReduceSum(sum, AllRanks(*group)));
    }
    WaitAll(works);
    findings.Expect(Same(received, Filled(*group, 2000, previous)), "transfer");
    findings.Expect(Same(sum, Filled(*group, 777, group->world_size())), "sum");
  }
}

void WorkThatIsDroppedStillArrives(Group group, Findings& findings) {
  // Work and tensor dropped.
  group->Send(Filled(*group, 100'000, group->rank()), Next(*group), 3);
  const at::Tensor tensor = Empty(*group, {100'000}, at::kFloat);
  group->Recv(tensor, Previous(*group), 3)->Wait(kConformanceTimeout);
  findings.Expect(Same(tensor, Filled(*group, 100'000, Previous(*group))), "what was dropped");
  const at::Tensor all = Filled(*group, 1, 1);  // Nobody leaves before everyone has received.
  group->AllReduceSum(all, AllRanks(*group))->Wait(kConformanceTimeout);
}

}  // namespace

std::vector<ConformanceCase> DataCases() {
  return {{"EveryPairInEveryDtypeAndSize", EveryPairInEveryDtypeAndSize},
          {"MessagesOfOneTagKeepTheirOrder", MessagesOfOneTagKeepTheirOrder},
          {"ManyOutstanding", ManyOutstanding},
          {"RingsBothWays", RingsBothWays},
          {"BytesOfUnknownLength", BytesOfUnknownLength},
          {"AllReduceSums", AllReduceSums},
          {"AllGatherInRankOrder", AllGatherInRankOrder},
          {"BroadcastFromEveryRoot", BroadcastFromEveryRoot},
          {"SeveralCollectivesUnderWay", SeveralCollectivesUnderWay},
          {"CollectivesOfSomeRanks", CollectivesOfSomeRanks},
          {"CollectivesAmongTransfers", CollectivesAmongTransfers},
          {"WorkThatIsDroppedStillArrives", WorkThatIsDroppedStillArrives}};
}

}  // namespace imageddpo
