// Simulates the agreement of ranks on when tensors move: any number of ranks on one thread, with
// messages and rounds in a random order.

#include "common/comm/nccl/grant_scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

using OperationId = GrantScheduler::OperationId;
using Round = GrantScheduler::Round;

constexpr OperationId kCollective = 1'000'000;

class Simulation;

class SimulatedRank : public GrantScheduler::Host {
 public:
  SimulatedRank(Simulation* simulation, int rank)
      : simulation_(simulation), rank_(rank), scheduler_(rank, this) {}

  void SendGrant(int to, const GrantMessage& message) override;
  std::string NewCommId(const std::vector<std::int32_t>& participants) override {
    return comms_.insert(participants).second ? "new" : "";
  }
  void RunRound(const Round& round) override {
    EXPECT_FALSE(running_.has_value()) << "two rounds at once on rank " << rank_;
    running_ = round;
    if (!round.comm_id.empty()) {
      comms_.insert(round.participants);
    }
  }
  void Complete(OperationId id) override { EXPECT_EQ(pending_.erase(id), 1U); }
  void Refuse(OperationId id, const std::string& why) override {
    EXPECT_EQ(pending_.erase(id), 1U) << why;
    refused_.insert(id);
  }

  void Post(OperationId id, const OperationSpec& spec) {
    pending_[id] = spec;
    specs_[id] = spec;
    scheduler_.Post(id, spec);
  }
  void EndRound() {
    running_.reset();
    scheduler_.RoundIsOver();
  }

  Simulation* const simulation_;
  const int rank_;
  GrantScheduler scheduler_;
  std::optional<Round> running_;
  std::map<OperationId, OperationSpec> pending_;
  std::map<OperationId, OperationSpec> specs_;
  std::set<OperationId> refused_;
  std::set<std::vector<std::int32_t>> comms_;
};

class Simulation {
 public:
  Simulation(int size, unsigned seed) : random_(seed) {
    for (int rank = 0; rank < size; ++rank) {
      ranks_.push_back(std::make_unique<SimulatedRank>(this, rank));
      posts_.emplace_back();
    }
  }

  SimulatedRank& rank(int rank) { return *ranks_[static_cast<std::size_t>(rank)]; }
  int size() const { return static_cast<int>(ranks_.size()); }
  int Draw(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }

  void Send(int from, int to, const GrantMessage& message) {
    messages_[{from, to}].push_back(EncodeGrantMessage(message));
  }

  /// To be posted by `rank` some time, after what was planned for it before.
  void Plan(int rank, OperationId id, const OperationSpec& spec) {
    posts_[static_cast<std::size_t>(rank)].push_back({id, spec});
  }

  /// Runs the simulation until nothing more can happen.
  void Run() {
    for (;;) {
      std::vector<std::function<void()>> possible;
      for (auto& [channel, queue] : messages_) {
        if (!queue.empty()) {
          possible.push_back([this, channel = channel, &queue = queue] {
            GrantMessage message;
            ASSERT_TRUE(DecodeGrantMessage(queue.front(), &message));
            queue.pop_front();
            rank(channel.second).scheduler_.OnMessage(channel.first, message);
          });
        }
      }
      for (int one = 0; one < size(); ++one) {
        auto& posts = posts_[static_cast<std::size_t>(one)];
        if (!posts.empty()) {
          possible.push_back([this, one, &posts] {
            const auto [id, spec] = posts.front();
            posts.pop_front();
            rank(one).Post(id, spec);
          });
        }
        if (rank(one).running_.has_value() && AllHaveStarted(*rank(one).running_)) {
          possible.push_back([this, one] { rank(one).EndRound(); });
        }
      }
      if (possible.empty()) {
        return;
      }
      possible[static_cast<std::size_t>(Draw(static_cast<int>(possible.size())))]();
    }
  }

 private:
  /// Like NCCL's kernels: a round ends on a rank only after it has started on all ranks.
  bool AllHaveStarted(const Round& round) {
    const auto name = std::make_pair(round.participants, round.number);
    if (started_.contains(name)) {
      return true;
    }
    for (const std::int32_t participant : round.participants) {
      const auto& running = rank(participant).running_;
      if (!running.has_value() || running->number != round.number ||
          running->participants != round.participants) {
        return false;
      }
      CheckPair(round, participant);
    }
    started_.insert(name);
    return true;
  }

  /// Both ends list the same transfers in the same order.
  void CheckPair(const Round& round, int participant) {
    const Round& other = *rank(participant).running_;
    EXPECT_EQ(other.operations.size(), round.operations.size());
    EXPECT_EQ(other.comm_id, round.comm_id);
    for (std::size_t i = 0; i < round.operations.size() && round.participants.size() == 2; ++i) {
      const auto& lower = rank(round.participants[0]);
      const auto& upper = rank(round.participants[1]);
      const OperationSpec& a = lower.specs_.at(lower.running_->operations[i]);
      const OperationSpec& b = upper.specs_.at(upper.running_->operations[i]);
      EXPECT_EQ(a.tag, b.tag);
      EXPECT_EQ(a.size_bytes, b.size_bytes);
      EXPECT_TRUE(a.collective() ? a.participants == b.participants : a.kind != b.kind);
    }
  }

  std::mt19937 random_;
  std::vector<std::unique_ptr<SimulatedRank>> ranks_;
  std::vector<std::deque<std::pair<OperationId, OperationSpec>>> posts_;
  std::map<std::pair<int, int>, std::deque<std::string>> messages_;
  std::set<std::pair<std::vector<std::int32_t>, std::int64_t>> started_;
};

void SimulatedRank::SendGrant(int to, const GrantMessage& message) {
  simulation_->Send(rank_, to, message);
}

TEST(GrantScheduler, WhateverTheOrderEverythingEnds) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const int size = 1 + static_cast<int>(seed) % 9;
    Simulation simulation(size, seed);
    struct Planned {
      int rank;
      OperationId id;
      OperationSpec spec;
    };
    std::vector<Planned> plan;
    for (int i = 0; i < 60; ++i) {
      const int from = simulation.Draw(size);
      const int to = simulation.Draw(size);
      // Its own tag, so that the order of posting is free; sizes of 0 too.
      const OperationSpec send{.kind = OperationSpec::Kind::kSend,
                               .peer = to,
                               .tag = i,
                               .size_bytes = simulation.Draw(3) * 100};
      OperationSpec receive = send;
      receive.kind = OperationSpec::Kind::kRecv;
      receive.peer = from;
      plan.push_back({from, 2 * i, send});
      plan.push_back({to, 2 * i + 1, receive});
    }
    for (std::size_t i = plan.size(); i > 1; --i) {
      std::swap(plan[i - 1], plan[static_cast<std::size_t>(simulation.Draw(static_cast<int>(i)))]);
    }
    // Five collectives of all ranks and five of some, each rank of which has ids of its own.
    std::vector<OperationSpec> collectives;
    for (int i = 0; i < 10; ++i) {
      OperationSpec spec{.kind = OperationSpec::Kind::kAllGather, .tag = i % 3, .size_bytes = 8};
      for (int rank = 0; rank < size; ++rank) {
        if (i < 5 || simulation.Draw(2) == 0) spec.participants.push_back(rank);
      }
      collectives.push_back(spec);
    }
    std::vector<std::size_t> posted(static_cast<std::size_t>(size));
    const auto post_collective = [&](int rank) {
      std::size_t& number = posted[static_cast<std::size_t>(rank)];
      for (; number < collectives.size(); ++number) {
        const auto& ranks = collectives[number].participants;
        if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) continue;
        simulation.Plan(rank, kCollective + 100 * rank + static_cast<OperationId>(number),
                        collectives[number]);
        ++number;
        return;
      }
    };
    for (const auto& [rank, id, spec] : plan) {
      simulation.Plan(rank, id, spec);
      if (simulation.Draw(8) == 0) {
        post_collective(rank);
      }
    }
    for (int rank = 0; rank < size; ++rank) {
      while (posted[static_cast<std::size_t>(rank)] < collectives.size()) post_collective(rank);
    }
    simulation.Run();
    for (int rank = 0; rank < size; ++rank) {
      EXPECT_TRUE(simulation.rank(rank).pending_.empty())
          << "seed " << seed << ": " << simulation.rank(rank).pending_.size()
          << " operations of rank " << rank << " of " << size << " never end";
      EXPECT_TRUE(simulation.rank(rank).refused_.empty());
    }
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(GrantScheduler, OneTagKeepsItsOrderAndMismatchesFailBothEnds) {
  Simulation simulation(2, 1);
  for (int i = 0; i < 3; ++i) {
    simulation.Plan(0, i, {.kind = OperationSpec::Kind::kSend, .peer = 1, .size_bytes = 10 + i});
    simulation.Plan(
        1, i, {.kind = OperationSpec::Kind::kRecv, .peer = 0, .size_bytes = i == 1 ? 99 : 10 + i});
  }
  simulation.Run();
  for (const int rank : {0, 1}) {
    EXPECT_TRUE(simulation.rank(rank).pending_.empty());
    EXPECT_EQ(simulation.rank(rank).refused_, std::set<OperationId>{1});
  }
}

TEST(GrantScheduler, CollectivesThatDifferFailEverywhere) {
  Simulation simulation(3, 1);
  for (int rank = 0; rank < 3; ++rank) {
    simulation.Plan(
        rank, kCollective,
        {.kind = rank == 2 ? OperationSpec::Kind::kBroadcast : OperationSpec::Kind::kAllReduceSum,
         .size_bytes = 8,
         .participants = {0, 1, 2}});
    simulation.Plan(
        rank, kCollective + 1,
        {.kind = OperationSpec::Kind::kAllReduceSum, .size_bytes = 8, .participants = {0, 1, 2}});
  }
  simulation.Run();
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(simulation.rank(rank).pending_.empty());
    EXPECT_EQ(simulation.rank(rank).refused_, std::set<OperationId>{kCollective});
  }
}

TEST(GrantScheduler, MessagesThatDoNotFitAreErrors) {
  Simulation simulation(3, 1);
  using Kind = GrantMessage::Kind;
  for (const Kind kind : {Kind::kReady, Kind::kAsk, Kind::kGo, Kind::kDone, Kind::kEnd}) {
    EXPECT_THROW(simulation.rank(1).scheduler_.OnMessage(
                     0, {.kind = kind, .round = 5, .participants = {0, 2}, .operations = {7}}),
                 CommError);
  }
}

TEST(GrantMessage, SurvivesTheWayAndRefusesWhatItIsNot) {
  const GrantMessage message{.kind = GrantMessage::Kind::kAsk,
                             .round = 12,
                             .participants = {0, 3},
                             .operations = {1, 2, 3},
                             .comm_id = std::string(128, '\0'),
                             .text = "text"};
  const std::string bytes = EncodeGrantMessage(message);
  GrantMessage read;
  ASSERT_TRUE(DecodeGrantMessage(bytes, &read));
  EXPECT_EQ(EncodeGrantMessage(read), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    GrantMessage other;
    EXPECT_FALSE(DecodeGrantMessage(bytes.substr(0, size), &other)) << size;
  }
  GrantMessage other;
  EXPECT_FALSE(DecodeGrantMessage(bytes + "x", &other));
  EXPECT_FALSE(DecodeGrantMessage(std::string(200, '\xff'), &other));
}

}  // namespace
}  // namespace imageddpo
