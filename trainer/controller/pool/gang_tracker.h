#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace imageddpo {

/// The ranks that work for one job, from StartJob until each of them has said that it is done with
/// it or has died; and what that amounts to. Thread-compatible.
class GangTracker {
 public:
  explicit GangTracker(const std::vector<int>& world_ranks);

  /// JobEnded came from the rank.
  void Ended(int world_rank, const absl::Status& status);
  /// Something came from the rank that the job does not survive; it works on until told to stop.
  /// False: it does not work for the job any more, or has failed before.
  bool Failed(int world_rank, const absl::Status& status);
  void Died(int world_rank, const std::string& reason);

  bool Has(int world_rank) const { return ranks_.contains(world_rank); }
  /// No rank works for the job any more.
  bool AllGone() const;
  /// A rank died or ended with an error: the others cannot go on without it.
  bool Broken() const;
  /// Ranks that still work for it, ascending.
  std::vector<int> Working() const;

  struct Outcome {
    enum class Kind {
      kDone,     ///< Every rank ended well.
      kFailed,   ///< The job itself is at fault: it would fail again.
      kRecover,  ///< A rank was lost, or ranks could not reach each other: worth another try.
    };
    Kind kind = Kind::kDone;
    std::string reason;  ///< Names the rank, its host where it died.
  };
  /// Meaningful once a rank has failed or AllGone(). An error of one rank makes its peers fail as
  /// well, with errors of communication: what counts is the first error that is none.
  Outcome GetOutcome() const;

 private:
  struct Rank {
    bool working = true;
    bool died = false;
    absl::Status status;
    std::string reason;
  };
  std::map<int, Rank> ranks_;
  std::vector<int> failures_;  // In the order they became known.
};

}  // namespace imageddpo
