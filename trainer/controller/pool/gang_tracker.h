#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace imageddpo {

/// Follows the ranks that work for one job, from StartJob until each has ended its part or died,
/// and judges the outcome. Thread-compatible.
class GangTracker {
 public:
  explicit GangTracker(const std::vector<int>& world_ranks);

  /// The rank has sent JobEnded.
  void Ended(int world_rank, const absl::Status& status);
  /// The rank has sent something that the job does not survive. The rank works on until it is told
  /// to stop. @return false: it does not work for the job any more, or has failed before.
  bool Failed(int world_rank, const absl::Status& status);
  void Died(int world_rank, const std::string& reason);

  bool Has(int world_rank) const { return ranks_.contains(world_rank); }
  /// Whether no rank works for the job any more.
  bool AllGone() const;
  /// Whether a rank has died or ended with an error, so that the others cannot continue.
  bool Broken() const;
  /// The ranks that still work for the job, ascending.
  std::vector<int> Working() const;

  struct Outcome {
    enum class Kind {
      kDone,    ///< Every rank ended well.
      kFailed,  ///< The job itself is at fault and would fail again.
      /// A rank was lost, ranks could not communicate, or something outside of the job was at fault
      /// (verdict.h): worth another try.
      kRecover,
      kPause,     ///< A rank ended with an error that pauses the job (PausesJob in status.h).
      kRollBack,  ///< A guard takes the job back to an earlier checkpoint (RollsBack there).
    };
    Kind kind = Kind::kDone;
    std::string reason;       ///< Names the rank, and its host if it died.
    std::string waiting_for;  ///< Of kPause: see PausesJob.
    int64_t epochs = 0;       ///< Of kRollBack: see RollsBack.
  };
  /// Valid once a rank has failed or AllGone(). When one rank fails, its peers fail too, with
  /// communication errors; so the first error that is not a communication error decides. Each is
  /// judged by Judge().
  Outcome GetOutcome() const;

 private:
  struct Rank {
    bool working = true;
    bool died = false;
    absl::Status status;
    std::string reason;
  };
  std::map<int, Rank> ranks_;
  std::vector<int> failures_;  // Ranks, in the order in which their failures became known.
};

}  // namespace imageddpo
