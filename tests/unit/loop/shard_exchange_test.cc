// Gradient shards of trainer ranks add up to the same bits for every number of ranks, and their
// statistics reach all of them; what goes wrong on the way ends every rank with a typed error.
#include "trainer/loop/shard_exchange.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/config/job_plan.h"
#include "tests/unit/loop/small_job.h"

namespace imageddpo {
namespace {

using Reduce = ReduceKind;
using std::chrono::milliseconds;

constexpr milliseconds kLong{60'000};        // Never passes here.
constexpr std::chrono::seconds kAtOnce{20};  // Far below kLong, far above a slow machine's delays.
constexpr int64_t kOddSizes[] = {1, 7, 1023};  // P, no multiple of what a vector holds.

/// Equal seeds give equal rows. Their sizes differ, so that the order of a sum shows in its bits.
at::Tensor MakeRows(int64_t num_rows, int64_t size) {
  at::manual_seed(num_rows * 10'000 + size);
  const at::Tensor rows_VP = at::randn({num_rows, size});
  for (int64_t v = 0; v < num_rows; ++v) rows_VP[v].mul_(v % 3 == 0 ? 1000 : 1);
  return rows_VP;
}

std::function<int(int64_t)> Owners(int64_t num_rows, int num_trainers) {
  JobPlan plan;
  plan.gradient_shards = num_rows;
  return [=](int64_t row) { return plan.OwnerOfShard(row, num_trainers); };
}

/// The trainers of a gang whose first and last ranks are no trainers.
class Trainers {
 public:
  explicit Trainers(int num_trainers, milliseconds timeout = kLong) : timeout_(timeout) {
    for (auto& mailbox : MakeThreadMailboxes(num_trainers + 2)) {
      mailboxes_.push_back(mailbox);
      gang_.push_back(std::make_unique<MailboxCommunicator>(mailbox, at::kCPU));
    }
    for (int index = 0; index < num_trainers; ++index) gang_ranks_.push_back(index + 1);
  }

  int size() const { return static_cast<int>(gang_ranks_.size()); }
  Communicator& communicator(int index) { return *gang_[gang_ranks_[index]]; }
  Mailbox& mailbox(int index) { return *mailboxes_[gang_ranks_[index]]; }
  ShardExchange Exchange(int index, Reduce reduce = Reduce::kExact) {
    return {gang_[gang_ranks_[index]].get(), gang_ranks_, index, reduce, timeout_};
  }

  /// The communicator of a process that has ended: what is sent to it is lost.
  void Vanish(int index) {
    gang_[gang_ranks_[index]].reset();
    mailboxes_[gang_ranks_[index]].reset();
  }

  /// Runs `work` for every trainer, each on a thread of its own.
  void Run(const std::function<void(int index)>& work) { RunOnThreads(size(), work); }

 private:
  milliseconds timeout_;
  std::vector<std::shared_ptr<Mailbox>> mailboxes_;
  std::vector<std::unique_ptr<Communicator>> gang_;
  std::vector<int> gang_ranks_;
};

/// The rows of `all` that belong to one trainer; the others are NaN, as is any sum with them.
at::Tensor OwnRows(const at::Tensor& all, int index, const std::function<int(int64_t)>& owner) {
  const at::Tensor rows = at::full_like(all, NAN);
  for (int64_t v = 0; v < all.size(0); ++v) {
    if (owner(v) == index) rows[v].copy_(all[v]);
  }
  return rows;
}

/// Over all trainers: what each has afterwards.
std::vector<at::Tensor> Gather(Trainers& trainers, const at::Tensor& all) {
  const auto owner = Owners(all.size(0), trainers.size());
  std::vector<at::Tensor> rows(trainers.size());
  for (int index = 0; index < trainers.size(); ++index) rows[index] = OwnRows(all, index, owner);
  trainers.Run([&](int index) { trainers.Exchange(index).AllGatherRows(rows[index], owner); });
  return rows;
}

/// Shard after shard, value by value.
at::Tensor DirectSum(const at::Tensor& rows_VP) {
  const at::Tensor contiguous_VP = rows_VP.contiguous();
  const auto rows = contiguous_VP.accessor<float, 2>();
  std::vector<float> sum(rows_VP.size(1));
  for (size_t p = 0; p < sum.size(); ++p) {
    sum[p] = rows[0][p];
    for (int64_t v = 1; v < rows_VP.size(0); ++v) sum[p] += rows[v][p];
  }
  return at::tensor(sum);
}

/// Adds `all`'s rows as gradient shards. @return the sum on one trainer.
at::Tensor Sum(ShardExchange exchange, const at::Tensor& all_VP) {
  const auto owner = Owners(all_VP.size(0), exchange.num_trainers());
  const auto sum_P = exchange.SumShards(all_VP.size(0), all_VP.size(1), owner,
                                        [&](int64_t v) -> absl::StatusOr<at::Tensor> {
                                          EXPECT_EQ(owner(v), exchange.my_index());
                                          return all_VP[v].clone();
                                        });
  EXPECT_TRUE(sum_P.ok()) << sum_P.status();
  return *sum_P;
}

class ShardSum : public testing::TestWithParam<std::tuple<int, int64_t>> {};

TEST_P(ShardSum, IsTheDirectSumInShardOrder) {
  const auto [num_trainers, num_shards] = GetParam();
  Trainers trainers(num_trainers);
  for (const int64_t size : kOddSizes) {
    const at::Tensor all_VP = MakeRows(num_shards, size);
    const at::Tensor expected_P = DirectSum(all_VP);
    trainers.Run([&](int index) {
      EXPECT_TRUE(Sum(trainers.Exchange(index), all_VP).equal(expected_P)) << size;
      const at::Tensor fast_P = Sum(trainers.Exchange(index, Reduce::kFast), all_VP);
      EXPECT_TRUE(at::allclose(fast_P, expected_P, 1e-4, 1e-3)) << size;
    });
    for (const at::Tensor& rows_VP : Gather(trainers, all_VP)) EXPECT_TRUE(rows_VP.equal(all_VP));
  }
}

TEST(ShardExchange, NamesTrainersWhoseTextDiffers) {
  Trainers alone(1), three(3);
  EXPECT_TRUE(alone.Exchange(0).Differing("a").empty());
  three.Run([&](int index) {
    ShardExchange exchange = three.Exchange(index);
    EXPECT_TRUE(exchange.Differing("same").empty());
    EXPECT_EQ(exchange.Differing(index == 2 ? "bad!" : "good"), std::vector<int>{2});
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, ShardSum,
                         testing::Combine(testing::Values(1, 2, 3, 5, 8),
                                          testing::Values(1, 7, 8, 13)),
                         [](const auto& info) {
                           return "Trainers" + std::to_string(std::get<0>(info.param)) + "Shards" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(ShardSum, AnotherOrderHasOtherBits) {  // Otherwise the tests above would see no order.
  const at::Tensor rows_VP = MakeRows(7, 1023);
  EXPECT_FALSE(DirectSum(rows_VP.flip(0)).equal(DirectSum(rows_VP)));
}

TEST(ShardExchange, TakesRowsOfAnyShapeAndDtypeOneExchangeAfterTheOther) {
  Trainers trainers(3);
  const at::Tensor gradients_VP = MakeRows(5, 7);
  const at::Tensor statistics = at::randn({7, 3, 4}, at::kDouble);
  std::vector<at::Tensor> first(3), second(3);
  for (int index = 0; index < 3; ++index) {
    first[index] = OwnRows(gradients_VP, index, Owners(5, 3));
    second[index] = OwnRows(statistics, index, Owners(7, 3));
  }
  trainers.Run([&](int index) {
    ShardExchange exchange = trainers.Exchange(index);
    exchange.AllGatherRows(first[index], Owners(5, 3));
    exchange.AllGatherRows(second[index], Owners(7, 3));
  });
  for (int index = 0; index < 3; ++index) {
    EXPECT_TRUE(first[index].equal(gradients_VP));
    EXPECT_TRUE(second[index].equal(statistics));
  }
}

TEST(ShardExchange, OneTrainerNeedsNoGangAndKeepsNoShard) {
  for (const Reduce reduce : {Reduce::kExact, Reduce::kFast}) {
    ShardExchange exchange(nullptr, {4}, 0, reduce, kLong);
    const at::Tensor rows_VP = MakeRows(5, 7);
    std::vector<at::Tensor> shards_P;
    const auto sum_P = exchange.SumShards(5, 7, Owners(5, 1), [&](int64_t v) {
      for (size_t i = 1; i < shards_P.size(); ++i) {  // The first one is the sum.
        EXPECT_EQ(shards_P[i].use_count(), 1);
      }
      shards_P.push_back(rows_VP[v].clone());
      return absl::StatusOr<at::Tensor>(shards_P.back());
    });
    EXPECT_TRUE(sum_P->equal(DirectSum(rows_VP)));
    exchange.AllGatherRows(rows_VP, Owners(5, 1));
    EXPECT_TRUE(rows_VP.equal(MakeRows(5, 7)));
  }
}

TEST(ShardExchange, AShardThatCannotBeComputedIsReturnedAtOnce) {
  Trainers trainers(2);
  const auto sum_P = trainers.Exchange(0).SumShards(4, 7, Owners(4, 2),
                                                    [](int64_t v) -> absl::StatusOr<at::Tensor> {
                                                      if (v == 1)
                                                        return absl::CancelledError("a stop");
                                                      return at::zeros({7});
                                                    });
  EXPECT_EQ(sum_P.status().code(), absl::StatusCode::kCancelled);
}

/// How an exchange ended on one rank.
struct Ending {
  std::optional<CommError::Kind> error;
  std::chrono::steady_clock::duration duration{};
};

Ending EndingOf(const std::function<void()>& exchange) {
  const auto start = std::chrono::steady_clock::now();
  Ending ending;
  try {
    exchange();
  } catch (const CommError& error) {
    ending.error = error.kind();
  }
  ending.duration = std::chrono::steady_clock::now() - start;
  return ending;
}

using Exchanges = std::function<void(ShardExchange exchange)>;

/// What may be under way when a trainer is lost.
std::vector<Exchanges> AllExchanges() {
  return {[](ShardExchange exchange) { Sum(std::move(exchange), MakeRows(7, 1023)); },
          [](ShardExchange exchange) {
            exchange.AllGatherRows(MakeRows(7, 1023), Owners(7, exchange.num_trainers()));
          }};
}

/// Three trainers exchange, and the last one runs `misfortune` instead of its part.
std::vector<Ending> WithoutTheLast(Trainers& trainers, const Exchanges& exchanges,
                                   const std::function<void()>& misfortune) {
  std::vector<Ending> endings(3);
  trainers.Run([&](int index) {
    if (index == 2) return misfortune();
    endings[index] = EndingOf([&] { exchanges(trainers.Exchange(index)); });
  });
  endings.pop_back();
  return endings;
}

TEST(ShardExchange, ATrainerThatDiesEndsTheOthersAtOnce) {
  for (const Exchanges& exchanges : AllExchanges()) {
    Trainers trainers(3);
    const auto endings = WithoutTheLast(trainers, exchanges, [&] {  // As a transport tells it.
      for (int index : {0, 1}) {
        trainers.mailbox(index).Fail(CommError::Kind::kPeerFailed, "it died");
      }
    });
    for (const Ending& ending : endings) {
      EXPECT_EQ(ending.error, CommError::Kind::kPeerFailed);
      EXPECT_LT(ending.duration, kAtOnce);
    }
  }
}

TEST(ShardExchange, ATrainerThatGivesUpEndsTheOthersAtOnce) {
  for (const Exchanges& exchanges : AllExchanges()) {
    Trainers trainers(3);
    const auto give_up = [&] { trainers.communicator(2).Abort("its job failed"); };
    for (const Ending& ending : WithoutTheLast(trainers, exchanges, give_up)) {
      EXPECT_EQ(ending.error, CommError::Kind::kAborted);
      EXPECT_LT(ending.duration, kAtOnce);
    }
  }
}

TEST(ShardExchange, ATrainerThatDoesNotComeEndsTheOthersAtTheDeadline) {
  constexpr milliseconds kDeadline{50};
  for (const Exchanges& exchanges : AllExchanges()) {
    Trainers trainers(3, kDeadline);
    for (const Ending& ending : WithoutTheLast(trainers, exchanges, [&] { trainers.Vanish(2); })) {
      EXPECT_EQ(ending.error, CommError::Kind::kTimeout);
      EXPECT_GE(ending.duration, kDeadline);
      EXPECT_LT(ending.duration, kAtOnce);
    }
  }
}

TEST(ShardExchange, AnExchangeThatFailedHoldsNoMemoryOnceTheGangIsClosed) {
  std::optional<Trainers> trainers(std::in_place, 2, milliseconds(20));
  const at::Tensor shard_P = at::ones({1023});
  const auto exchange = [&] {
    (void)trainers->Exchange(0).SumShards(
        2, 1023, Owners(2, 2), [&](int64_t) { return absl::StatusOr<at::Tensor>(shard_P); });
  };
  EXPECT_EQ(EndingOf(exchange).error, CommError::Kind::kTimeout);
  EXPECT_GT(shard_P.storage().use_count(), 1) << "the other trainer may still come for it";
  trainers.reset();
  EXPECT_EQ(shard_P.storage().use_count(), 1);
}

/// Two trainers that disagree on the rows.
std::vector<Ending> WithOther(Trainers& trainers, const at::Tensor& rows, const at::Tensor& other) {
  std::vector<Ending> endings(2);
  trainers.Run([&](int index) {
    endings[index] = EndingOf([&] {
      trainers.Exchange(index).AllGatherRows(index == 0 ? rows : other, Owners(rows.size(0), 2));
    });
  });
  return endings;
}

TEST(ShardExchange, RowsThatDifferEndBothAtOnceAndLeaveTheGangInOrder) {
  Trainers trainers(2);
  const std::pair<const char*, at::Tensor> wrong[] = {{"longer", MakeRows(7, 1024)},
                                                      {"shorter", MakeRows(7, 1022)},
                                                      {"dtype", MakeRows(7, 1023).view(at::kInt)}};
  for (const auto& [what, other] : wrong) {
    for (const Ending& ending : WithOther(trainers, MakeRows(7, 1023), other)) {
      EXPECT_EQ(ending.error, CommError::Kind::kTransport) << what;
      EXPECT_LT(ending.duration, kAtOnce) << what;
    }
    // Nothing is left of it: the next exchange has its own rows.
    const at::Tensor all_VP = MakeRows(8, 7);
    for (const at::Tensor& rows_VP : Gather(trainers, all_VP)) {
      EXPECT_TRUE(rows_VP.equal(all_VP)) << what;
    }
  }
}

}  // namespace
}  // namespace imageddpo
