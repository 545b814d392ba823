#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace imageddpo {

// The rules of the job queue, without ranks, clocks or files: which job comes next, when the first
// one can start at the latest, who may start before it, and who has to make room. Scheduler applies
// them to the pool.

constexpr double kUnknownSeconds = std::numeric_limits<double>::infinity();

/// A job that waits for ranks.
struct QueuedJob {
  std::string id;
  std::string owner;
  bool recovers = false;  ///< It ran before and lost its ranks.
  int32_t priority = 0;
  int64_t number = 0;                ///< Unique; in order of submission.
  double seconds = kUnknownSeconds;  ///< For how long it will need its ranks.
  bool reserved = false;             ///< Ranks are kept for it since an earlier look at the queue.
};

/// A job that has ranks.
struct GangAtWork {
  std::string job_id;
  int32_t priority = 0;
  int64_t number = 0;  ///< As QueuedJob::number.
  int ranks = 0;
  double seconds_left = kUnknownSeconds;  ///< Until its ranks are free.
  bool leaves = false;                    ///< It was told to give its ranks back.
};

/// Hands out the jobs that wait, the one that comes first first: recovering ones, the oldest first
/// within a priority; then by priority, the highest first; then by owner; then in order of
/// submission. The owner of the job that ranks are kept for comes first until that job has had its
/// turn, so that it is not put off when shares change; then the owner with the smallest share.
class QueueOrder {
 public:
  /// @param share  what an owner has taken; larger: later. Asked anew for each job, since a job
  ///               that was started adds to its owner's share.
  QueueOrder(const std::vector<QueuedJob>& jobs,
             std::function<double(const std::string& owner)> share);

  /// nullptr: there is no further one. The job is one of those given to the constructor.
  const QueuedJob* Next();

 private:
  struct Level {
    bool fresh = true;
    int32_t priority = 0;
    bool operator<(const Level& other) const {
      return std::tuple(fresh, -int64_t{priority}) <
             std::tuple(other.fresh, -int64_t{other.priority});
    }
  };
  struct Jobs {
    std::map<std::string, std::deque<const QueuedJob*>> by_owner;  // None empty, in their order.
    std::optional<std::string> first_owner;                        // Whose job ranks are kept for.
  };

  std::function<double(const std::string& owner)> share_;
  std::map<Level, Jobs> levels_;  // Without empty ones.
};

/// Ranks that are kept for the first job that has to wait.
struct Reservation {
  /// It can start then, if every job at work ends when it is said to. kUnknownSeconds: not known.
  double in_s = kUnknownSeconds;
  /// So many ranks are free then beyond those that it takes.
  int spare = 0;

  /// Whether a job may start now without delaying the one that this is for. Nobody may rely on a
  /// time that is not known.
  bool Allows(int ranks, double seconds) const;
  /// Such a job was started.
  void Started(int ranks, double seconds);
};

/// @param ranks  what the job needs, more than are free.
/// @param free   ranks that are free now.
Reservation Reserve(int ranks, int free, std::vector<GangAtWork> at_work);

/// The jobs to pause so that one of `priority` gets its ranks: of lower priority alone, the lowest
/// first, of those the newest first, and no more than are needed. Ranks of gangs that leave count
/// as free. Empty: that would not be enough, or nothing need be done.
std::vector<std::string> ChoosePreempted(int ranks, int32_t priority, int free,
                                         std::vector<GangAtWork> at_work);

}  // namespace imageddpo
