#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/comm/communicator.h"
#include "common/comm/nccl/grant_message.h"

namespace imageddpo {

/// Decides when tensors are transferred, so that all ranks that take part queue their half at the
/// same time. On a GPU a posted receive is a kernel that spins until its sender comes, and two such
/// kernels on two devices can wait for each other for ever. Therefore nothing is queued before all
/// participants have agreed, and a device runs one round at a time.
///
/// A round is a group of ranks and the operations they do together: all matched transfers of a pair
/// (both directions), or one collective of any of the ranks. Its coordinator is the lowest
/// participating rank.
///
///   ready  A rank that comes to an operation tells the coordinator, which matches the operations.
///   ask    The coordinator reserves itself and asks the next participant, in ascending order. That
///         one reserves itself as soon as its own round is over, and asks the next.
///   go     The last participant tells all others; all start.
///   done   A rank whose part is over says so, and is free for the next round. Of a pair each tells
///         the other; of a collective all tell the coordinator.
///   end    The coordinator of a collective tells all that everyone is done.
///
/// An operation is complete when its round is over on every participant. What was sent has then
/// arrived, and a rank may close its communicators without affecting another.
///
/// There is no deadlock: a rank with a reservation only waits for a higher rank, and a running
/// round waits for nobody outside.
///
/// Thread-compatible; no call waits.
class GrantScheduler {
 public:
  /// Identifies an operation on its rank.
  using OperationId = std::int64_t;

  struct Round {
    std::int64_t number = 0;                 ///< Together with participants[0] unique.
    std::vector<std::int32_t> participants;  ///< Ascending.
    std::vector<OperationId> operations;     ///< Of this rank, in the order that all agree on.
    std::string comm_id;  ///< Not empty: a communicator of these ranks has to be made first.
  };

  /// What the scheduler calls. Implementations must not call the scheduler from within.
  class Host {
   public:
    virtual ~Host() = default;
    virtual void SendGrant(int to, const GrantMessage& message) = 0;
    /// @return an id if these ranks have no communicator yet, otherwise "".
    virtual std::string NewCommId(const std::vector<std::int32_t>& participants) = 0;
    /// Starts a round on this rank. The host calls RoundIsOver() when this rank's part is over.
    virtual void RunRound(const Round& round) = 0;
    virtual void Complete(OperationId id) = 0;
    /// The ranks do not agree on the operation. It fails; the group remains usable.
    virtual void Refuse(OperationId id, const std::string& why) = 0;
  };

  GrantScheduler(int rank, Host* host) : rank_(rank), host_(host) {}

  /// This rank has come to an operation.
  void Post(OperationId id, const OperationSpec& spec);

  /// @throws CommError  an impossible message.
  void OnMessage(int from, const GrantMessage& message);

  /// This rank's part of the round that was started last is over.
  void RoundIsOver();

 private:
  struct Offer {
    OperationId id;
    OperationSpec spec;
  };
  /// The unmatched transfers of one direction and tag between this rank and a higher one (or
  /// itself).
  struct Lane {
    std::deque<Offer> mine;
    std::deque<Offer> theirs;
  };
  struct Match {
    OperationId mine;
    OperationId theirs;
    std::int64_t size_bytes;
  };
  /// A round that may start as soon as this rank is free.
  struct Candidate {
    enum class Kind { kPair, kCollective, kAsk };
    Kind kind;
    int peer = 0;      // kPair
    GrantMessage ask;  // kCollective, without a number and an id of a communicator; kAsk
  };
  struct Current {
    Round round;
    GrantMessage ask;  // For the next rank: kind of operation and ids there.
    bool running = false;
  };
  using LaneKey = std::tuple<int, bool, std::int64_t>;      // peer, towards the peer, tag
  using RoundName = std::pair<std::int32_t, std::int64_t>;  // coordinator, number
  using GroupKey = std::pair<std::vector<std::int32_t>, std::int64_t>;  // participants, tag

  void AddOffer(int peer, bool towards_peer, bool is_mine, const Offer& offer);
  void AddCollective(int from, const Offer& offer);
  /// The operations that an ask means on this rank; empty if it has not come to one of them.
  std::vector<OperationId> OperationsOf(const GrantMessage& ask) const;
  void Advance();
  Current Begin(Candidate candidate);
  void AskNextOrGo();
  void Run();
  void OnDone(int from, const GrantMessage& message);
  void EndIfAllAreDone(const RoundName& name, const std::vector<std::int32_t>& ranks);
  void CompleteRound(const RoundName& name);
  void Complete(OperationId id);
  void Refuse(OperationId id, const std::string& why);

  const int rank_;
  Host* const host_;
  std::map<OperationId, OperationSpec> posted_;
  std::map<LaneKey, Lane> lanes_;
  std::map<int, std::deque<Match>> matches_;  // By peer.
  // On the lowest rank of a group: what its ranks are ready for, by rank.
  std::map<GroupKey, std::map<int, std::deque<Offer>>> collectives_;
  std::deque<Candidate> candidates_;
  std::optional<Current> current_;
  std::int64_t next_round_ = 0;
  std::map<RoundName, std::vector<OperationId>> over_;  // Over here, perhaps not on other ranks.
  std::map<RoundName, int> done_;                       // How many other ranks are done.
};

}  // namespace imageddpo
