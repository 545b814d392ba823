#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/process.h"
#include "common/config/resolved_job.h"
#include "common/model_config/model_count.h"
#include "common/plan/choose.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// The pool of workers and the job queue: decides which ranks work for which job. Recovering jobs
/// (those that ran before and lost their ranks) come first, then the others, each group by
/// priority, the highest first, and in order of submission. No job overtakes one before it that
/// fits the pool, either as it is now or as it was started. Only decides: sends and stores nothing.
/// Thread-compatible.
class Scheduler {
 public:
  struct Worker {
    int world_rank = 0;
    std::string hostname;  ///< Empty until the worker has reported.
    int pid = 0;
    ProcessId process;
    std::string device;
    int cores = 0;
    int64_t host_memory_bytes = 0, device_memory_bytes = 0;  ///< 0: not known.
    std::string job_id;                                      ///< The job it works for; empty: idle.
    bool dead = false;
    bool died_at_work = false;  ///< It worked for a job when it died.
    bool drained = false;       ///< It gets no job; it may still work for one.
    bool reported() const { return cores > 0; }
    bool free() const { return reported() && !dead && !drained && job_id.empty(); }
  };

  explicit Scheduler(const std::vector<int>& worker_ranks);

  /// The worker has sent Hello. Ranks that are not workers are ignored.
  void WorkerReported(int world_rank, const v1::Hello& hello);
  /// The worker is dead. @return the job it worked for; empty: none.
  std::string WorkerFailed(int world_rank);

  /// From now on the worker gets no job, or gets jobs again. It must be one of workers().
  void SetDrained(int world_rank, bool drained) { workers_.at(world_rank).drained = drained; }

  const std::map<int, Worker>& workers() const { return workers_; }
  int pool_size() const;  ///< Workers that are not dead.
  int num_dead() const { return static_cast<int>(workers_.size()) - pool_size(); }
  int num_usable() const;  ///< Of those, the ones that are not drained.
  int num_free() const;
  bool AllReported() const;  ///< Every worker that is not dead has sent Hello.
  int MinCoresPerHost() const;
  int MaxWorkersPerHost() const;
  bool OnGpus() const;  ///< All workers that have reported have a GPU; at least one has reported.

  /// Bytes of memory that a rank can use on the worker with the least, from what workers have
  /// reported; 0: not known. CPU ranks share the memory of their host, ranks on one GPU that of the
  /// GPU.
  struct RankMemory {
    double share = 0;  ///< When all workers are busy.
    double most = 0;   ///< When only the `gang_size` ranks of one job are busy.
  };
  RankMemory MemoryOfRank(int gang_size) const;

  /// ChooseTopology() with what the workers have reported of their devices. Memory counts only once
  /// the job's micro-batch is chosen, which is made to fit.
  /// @param model  not set: not known.
  absl::StatusOr<TopologyChoice> Choose(const ResolvedJob& job,
                                        const std::optional<ModelCount>& model,
                                        int num_ranks) const;

  /// Puts a job into the queue, at its place by priority and order of submission.
  /// @param number    JobRecord::number.
  /// @param recovers  The job ran before. It then takes the ranks that are free at once, even
  ///                  fewer than it had if its topology allows that.
  /// @param model     Its counts, for `topology: auto`; not set: not known.
  void Enqueue(int64_t number, const std::string& job_id, const ResolvedJob& job,
               bool recovers = false, const std::optional<ModelCount>& model = std::nullopt,
               int32_t priority = 0);
  bool IsQueued(const std::string& job_id) const;
  void RemoveFromQueue(const std::string& job_id);
  /// The job keeps its place in the queue but gets no ranks until ReleaseHolds(); others go past
  /// it.
  /// @param reason  what WaitReasons() says meanwhile.
  void Hold(const std::string& job_id, const std::string& reason);
  void ReleaseHolds();

  struct Gang {
    std::string job_id;
    ResolvedJob job;
    Topology topology;
    std::vector<int> world_ranks;  ///< Rollout ranks first, then trainers.
    std::string topology_reason;   ///< TopologyChoice::why.
  };
  /// Removes from the queue the jobs that can start now. Their ranks are busy until Release().
  std::vector<Gang> FormGangs();
  /// The job's ranks are free again.
  void Release(const std::string& job_id);

  /// The first job in the queue that fits the pool as it was started, but not without the dead
  /// workers; empty: none.
  std::string WaitsForTheDead() const;

  /// Why each job in the queue waits, by job id.
  std::map<std::string, std::string> WaitReasons() const;

 private:
  struct Place {
    bool fresh = true;  ///< It has not run yet.
    int32_t priority = 0;
    int64_t number = 0;
    bool operator<(const Place& other) const {
      return std::tuple(fresh, -int64_t{priority}, number) <
             std::tuple(other.fresh, -int64_t{other.priority}, other.number);
    }
  };
  struct Waiting {
    std::string job_id;
    ResolvedJob job;
    std::string held_for;  // Not empty: it gets no ranks.
    std::optional<ModelCount> model;
    /// What Choose() said, by number of ranks, since a worker has reported or died: it is asked for
    /// with every look at the queue.
    mutable std::map<int, absl::StatusOr<TopologyChoice>> choices;
  };
  std::vector<int> ChooseRanks(int count) const;
  const absl::StatusOr<TopologyChoice>& ChoiceOf(const Waiting& waiting, int num_ranks) const;
  absl::StatusOr<TopologyChoice> FitInto(const Waiting& waiting, int num_ranks) const;
  /// The topology of the gang that the job waits for; an error if the live workers are too few.
  absl::StatusOr<TopologyChoice> Fit(const Place& place, const Waiting& waiting) const;
  bool FitsWholePool(const Waiting& waiting) const;
  bool FitsLivePool(const Waiting& waiting) const;  // With the drained workers.
  void ForgetChoices();

  std::map<int, Worker> workers_;   // By world rank.
  std::map<Place, Waiting> queue_;  // The first one to start first.
};

}  // namespace imageddpo
