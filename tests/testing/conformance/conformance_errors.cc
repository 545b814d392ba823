// Conformance cases: errors, timeouts, aborts and closing.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/testing/conformance/conformance_tools.h"

namespace imageddpo {
namespace {

using Group = std::unique_ptr<Communicator>;
using Kind = CommError::Kind;

at::Tensor Zeros(const Communicator& group, at::IntArrayRef shape,
                 at::ScalarType dtype = at::kFloat) {
  return at::zeros(shape, at::TensorOptions().dtype(dtype).device(group.device()));
}

void MistakesAreErrorsOfTheirOwn(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {4, 6});
  ExpectRefused(findings, "a rank too high", [&] { group->Send(tensor, group->world_size(), 0); });
  ExpectRefused(findings, "a negative rank", [&] { group->Recv(tensor, -1, 0); });
  ExpectRefused(findings, "a tensor that is not contiguous",
                [&] { group->Send(tensor.t(), 0, 0); });
  ExpectRefused(findings, "a root too high",
                [&] { group->Broadcast(tensor, group->world_size(), AllRanks(*group)); });
  const int self = group->rank(), last = group->world_size() - 1;
  for (const RankGroup& wrong :
       {RankGroup{}, RankGroup{.ranks = {self, self}}, RankGroup{.ranks = {self, last + 1}},
        RankGroup{.ranks = {self == 0 ? last : 0}}}) {
    if (wrong.ranks == std::vector<int>{self}) continue;  // Alone.
    ExpectRefused(findings, "a group that cannot be", [&] { group->AllReduceSum(tensor, wrong); });
  }
  ExpectRefused(findings, "no tensor", [&] { group->Send({}, 0, 0); });
}

/// A receive with another size or dtype than the send fails, and the group still works.
void TransfersThatDoNotFit(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {4, 6});
  for (const int distance : {0, 1}) {  // To itself, to the next.
    const int to = (group->rank() + distance) % group->world_size();
    const int from = (group->rank() + group->world_size() - distance) % group->world_size();
    for (const at::Tensor& other :
         {Zeros(*group, {25}), Zeros(*group, {24}, at::kInt), Zeros(*group, {0})}) {
      const auto send = group->Send(tensor, to, 4);
      const auto receive = group->Recv(other, from, 4);
      ExpectCommError(findings, "a receive of another size or dtype", Kind::kTransport, "",
                      [&] { receive->Wait(kConformanceTimeout); });
    }
    const auto send = group->Send(Filled(*group, 3, group->rank()), to, 4);
    const at::Tensor good = Zeros(*group, {3});
    group->Recv(good, from, 4)->Wait(kConformanceTimeout);
    send->Wait(kConformanceTimeout);
    findings.Expect(Same(good, Filled(*group, 3, from)), "the transfer after one that did not fit");
  }
}

void CollectivesThatDoNotFit(Group group, Findings& findings) {
  const int size = group->world_size();
  if (size == 1) {
    return;
  }
  const bool is_last = group->rank() == size - 1;
  const std::int64_t mine = is_last ? 5 : 3;
  ExpectCommError(findings, "an all-gather of other sizes", Kind::kTransport, "", [&] {
    group->AllGather(Zeros(*group, {size, mine}), Zeros(*group, {mine}), AllRanks(*group))
        ->Wait(kConformanceTimeout);
  });
  ExpectCommError(findings, "an all-gather of another dtype", Kind::kTransport, "", [&] {
    const auto dtype = is_last ? at::kInt : at::kFloat;
    group->AllGather(Zeros(*group, {size, 3}, dtype), Zeros(*group, {3}, dtype), AllRanks(*group))
        ->Wait(kConformanceTimeout);
  });
  const at::Tensor sum = Filled(*group, 3, 1);
  group->AllReduceSum(sum, AllRanks(*group))->Wait(kConformanceTimeout);
  findings.Expect(Same(sum, Filled(*group, 3, size)), "the collective after one that did not fit");
}

void AWaitEndsAtItsDeadline(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {3});
  const auto receive = group->Recv(tensor, group->rank(), 77);
  const auto start = std::chrono::steady_clock::now();
  ExpectCommError(findings, "a receive of what nobody sent", Kind::kTimeout, "",
                  [&] { receive->Wait(std::chrono::milliseconds(100)); });
  const auto waited = std::chrono::steady_clock::now() - start;
  findings.Expect(waited >= std::chrono::milliseconds(100), "the wait ended early");
  findings.Expect(waited < std::chrono::seconds(5), "the wait ended late");
  findings.Expect(!receive->Done(), "done without a sender");
  ExpectCommError(findings, "bytes that nobody sent", Kind::kTimeout, "",
                  [&] { group->RecvBytes(group->rank(), 77, std::chrono::milliseconds(50)); });
  const auto send = group->Send(tensor, group->rank(), 77);  // It is still under way, and ends.
  receive->Wait(kConformanceTimeout);
  send->Wait(kConformanceTimeout);
}

/// All ranks but the last time out; when the last joins, the next attempt succeeds.
void ALateRankEndsNothing(Group group, Findings& findings) {
  constexpr int kTag = 80;
  const int last = group->world_size() - 1;
  const bool is_late = group->rank() == last && last > 0;
  const at::Tensor sum = Filled(*group, 1000, 1);
  for (int rank = 0; is_late && rank < last; ++rank) {
    group->RecvBytes(rank, kTag, kConformanceTimeout);  // It has given up waiting.
  }
  const auto work = group->AllReduceSum(sum, AllRanks(*group));
  if (!is_late && last > 0) {
    ExpectCommError(findings, "a sum without the last rank", Kind::kTimeout, "",
                    [&] { work->Wait(std::chrono::milliseconds(20)); });
    group->SendBytes("join", last, kTag)->Wait(kConformanceTimeout);
  }
  work->Wait(kConformanceTimeout);
  findings.Expect(Same(sum, Filled(*group, 1000, group->world_size())), "the sum");
}

void ClosingEndsWhatIsPending(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {30});
  const int size = group->world_size();
  const auto receive = group->Recv(tensor, Next(*group), 78);
  const auto send = size == 1 ? nullptr : group->Send(tensor, Next(*group), 79);  // To nobody.
  group.reset();
  ExpectCommError(findings, "what is pending when the communicator is closed", Kind::kAborted,
                  "closed", [&] { receive->Wait(kConformanceTimeout); });
  findings.Expect(receive->Done(), "a receive that has ended is not done");
  if (send != nullptr) {
    findings.Expect(send->Done(), "a send is pending after the communicator was closed");
    try {  // To a rank that had closed before, it has ended already.
      send->Wait(kConformanceTimeout);
    } catch (const CommError& error) {
      findings.Expect(error.kind() == Kind::kAborted, error.what());
    }
  }
}

void AbortOnOneRankEndsTheWaitsOfAll(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {3});
  const auto receive = group->Recv(tensor, group->rank(), 78);
  if (group->rank() == group->world_size() - 1) {
    group->Abort("a test");
    group->Abort("again");
  }
  const auto expect_aborted = [&](const std::string& what, const std::function<void()>& call) {
    ExpectCommError(findings, what, Kind::kAborted, "a test", call);
  };
  expect_aborted("pending", [&] { receive->Wait(kConformanceTimeout); });
  expect_aborted("send", [&] { group->Send(tensor, 0, 78)->Wait(kConformanceTimeout); });
  expect_aborted("receive", [&] { group->Recv(tensor, 0, 79)->Wait(kConformanceTimeout); });
  expect_aborted("bytes", [&] { group->RecvBytes(0, 79, kConformanceTimeout); });
  if (group->world_size() > 1) {
    expect_aborted("sum", [&] {
      group->AllReduceSum(Zeros(*group, {30}), AllRanks(*group))->Wait(kConformanceTimeout);
    });
    expect_aborted("gather", [&] {
      group->AllGather(Zeros(*group, {group->world_size(), 3}), tensor, AllRanks(*group))
          ->Wait(kConformanceTimeout);
    });
  }
}

/// From another thread, while this one waits.
void AbortFromAnotherThreadEndsAWait(Group group, Findings& findings) {
  const at::Tensor tensor = Zeros(*group, {3});
  const auto receive = group->Recv(tensor, Next(*group), 80);
  std::thread aborter;
  if (group->rank() == 0) {
    aborter = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      group->Abort("from a thread");
    });
  }
  ExpectCommError(findings, "what waits", Kind::kAborted, "from a thread",
                  [&] { receive->Wait(kConformanceTimeout); });
  if (aborter.joinable()) {
    aborter.join();
  }
}

}  // namespace

std::vector<ConformanceCase> ErrorCases() {
  return {{"MistakesAreErrorsOfTheirOwn", MistakesAreErrorsOfTheirOwn},
          {"TransfersThatDoNotFit", TransfersThatDoNotFit},
          {"CollectivesThatDoNotFit", CollectivesThatDoNotFit},
          {"AWaitEndsAtItsDeadline", AWaitEndsAtItsDeadline},
          {"ALateRankEndsNothing", ALateRankEndsNothing},
          {"ClosingEndsWhatIsPending", ClosingEndsWhatIsPending},
          {"AbortOnOneRankEndsTheWaitsOfAll", AbortOnOneRankEndsTheWaitsOfAll},
          {"AbortFromAnotherThreadEndsAWait", AbortFromAnotherThreadEndsAWait}};
}

}  // namespace imageddpo
