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

/// Decides when tensors move, so that every rank that takes part queues its half on its device at
/// the same time. On a GPU a posted receive is a kernel that spins until its sender comes, and two
/// such kernels on two devices can wait for each other for ever; so nothing is queued before
/// everyone has agreed to it, and a device does one round at a time.
///
/// A round is a group of ranks and the operations they do together: all matched transfers of a pair
/// (both directions), or one collective. Its coordinator is the lowest rank that takes part.
///
///   ready  a rank comes to an operation and tells the coordinator, which matches what fits
///   ask    the coordinator reserves itself and asks the next rank, which reserves itself as soon
///   as
///          its own round is over and asks the next, in ascending order
///   go     the last rank tells all others; everyone starts
///   done   each rank tells that its part is over, and is free for the next round; of a pair the
///   one
///          tells the other, of a collective all tell the coordinator
///   end    the coordinator of a collective tells all that everyone is done
///
/// Operations are complete when their round is over on every rank that took part: then what was
/// sent has arrived, and a rank may close its communicators without taking anything from another.
///
/// Whoever waits with a reservation waits for a higher rank, so there is no circle; a round that
/// runs waits for nobody outside.
///
/// Thread-compatible; nothing here waits.
class GrantScheduler {
 public:
  /// A number that names an operation on its rank. Of a collective: the same on all ranks.
  using OperationId = std::int64_t;

  struct Round {
    std::int64_t number = 0;  ///< With participants[0]: a name that is never used again.
    std::vector<std::int32_t> participants;  ///< Ascending.
    std::vector<OperationId> operations;     ///< This rank's, in the order all agree on.
    std::string comm_id;  ///< Not empty: make the communicator of these ranks first.
  };

  /// What the scheduler lets others do; they do not call it back from within.
  class Host {
   public:
    virtual ~Host() = default;
    virtual void SendGrant(int to, const GrantMessage& message) = 0;
    /// @return an id where these ranks have no communicator yet, otherwise nothing.
    virtual std::string NewCommId(const std::vector<std::int32_t>& participants) = 0;
    /// Everyone starts now. RoundIsOver() says when this rank's part is over.
    virtual void RunRound(const Round& round) = 0;
    virtual void Complete(OperationId id) = 0;
    /// The ranks do not agree on the operation: it fails, the group goes on.
    virtual void Refuse(OperationId id, const std::string& why) = 0;
  };

  GrantScheduler(int rank, int size, Host* host) : rank_(rank), size_(size), host_(host) {}

  /// This rank has come to an operation.
  void Post(OperationId id, const OperationSpec& spec);

  /// @throws CommError  a message that cannot be.
  void OnMessage(int from, const GrantMessage& message);

  /// This rank's part of the round that was started last is over.
  void RoundIsOver();

 private:
  struct Offer {
    OperationId id;
    OperationSpec spec;
  };
  /// Of one direction and tag between this rank and a higher one (or itself).
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
    int peer = 0;        // kPair
    OperationId id = 0;  // kCollective
    GrantMessage ask;    // kAsk
  };
  struct Current {
    Round round;
    std::vector<OperationId> theirs;  // For the ask to the next rank.
    bool running = false;
  };
  using LaneKey = std::tuple<int, bool, std::int64_t>;      // peer, towards the peer, tag
  using RoundName = std::pair<std::int32_t, std::int64_t>;  // coordinator, number

  void AddOffer(int peer, bool towards_peer, bool is_mine, const Offer& offer);
  void AddCollective(int from, OperationId id, const OperationSpec& spec);
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
  const int size_;
  Host* const host_;
  std::map<OperationId, OperationSpec> posted_;
  std::map<LaneKey, Lane> lanes_;
  std::map<int, std::deque<Match>> matches_;                         // By peer.
  std::map<OperationId, std::map<int, OperationSpec>> collectives_;  // Rank 0: who is ready.
  std::deque<Candidate> candidates_;
  std::optional<Current> current_;
  std::int64_t next_round_ = 0;
  std::map<RoundName, std::vector<OperationId>> over_;  // Here, but perhaps not elsewhere.
  std::map<RoundName, int> done_;                       // How many others have said so.
};

}  // namespace imageddpo
