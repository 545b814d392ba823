#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/process.h"
#include "common/config/job_plan.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// The pool of workers and the queue of jobs: who works for whom, who waits for what. Jobs that ran
/// before and lost their ranks come first, then the others, each in order of submission; none
/// overtakes one before it that fits the pool, as it is or as it was started. Decides only: sends
/// and stores nothing. Thread-compatible.
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
    std::string job_id;                                      ///< For which it works; empty: idle.
    bool dead = false;
    bool died_at_work = false;  ///< It had a job when it died.
    bool reported() const { return cores > 0; }
    bool free() const { return reported() && !dead && job_id.empty(); }
  };

  explicit Scheduler(const std::vector<int>& worker_ranks);

  /// The worker is there. Ranks that are no worker's are ignored.
  void WorkerReported(int world_rank, const v1::Hello& hello);
  /// The worker is gone for good. @return the job it worked for; empty: none.
  std::string WorkerFailed(int world_rank);

  const std::map<int, Worker>& workers() const { return workers_; }
  int pool_size() const;  ///< Workers that are not dead.
  int num_dead() const { return static_cast<int>(workers_.size()) - pool_size(); }
  int num_free() const;
  bool AllReported() const;  ///< Every worker that is not dead has.
  int MinCoresPerHost() const;
  int MaxWorkersPerHost() const;
  bool OnGpus() const;  ///< Every worker that has reported has a GPU, and one has.

  /// Bytes that a rank can have on the worker with the least, as far as workers have told; 0: not
  /// known. Ranks on the CPU share their host's memory, those on one GPU the GPU's.
  struct RankMemory {
    double share = 0;  ///< With every worker at work.
    double most = 0;   ///< With the `gang_size` ranks of one job alone at work.
  };
  RankMemory MemoryOfRank(int gang_size) const;

  /// Puts a job in the queue, at its place in the order of submission. @param number
  /// JobRecord::number. @param recovers  It ran before: it takes what is free at once, also with
  /// fewer ranks than it had where its topology allows.
  void Enqueue(int64_t number, const std::string& job_id, const v1::JobSpec& spec,
               bool recovers = false);
  void RemoveFromQueue(const std::string& job_id);

  struct Gang {
    std::string job_id;
    Topology topology;
    std::vector<int> world_ranks;  ///< Rollout ranks first, then trainers.
  };
  /// Takes out of the queue what can start now. Its ranks belong to it until Release().
  std::vector<Gang> FormGangs();
  /// The job's ranks are free again.
  void Release(const std::string& job_id);

  /// The first job in the queue that fits the pool as it was started, but not what is left of it;
  /// empty: none.
  std::string WaitsForTheDead() const;

  /// Why each job in the queue waits, by job id.
  std::map<std::string, std::string> WaitReasons() const;

 private:
  struct Waiting {
    std::string job_id;
    v1::JobSpec spec;
  };
  std::vector<int> ChooseRanks(int count) const;
  absl::StatusOr<Topology> FitInto(const v1::JobSpec& spec, int num_ranks) const;
  /// The gang that the job waits for; an error where what is left of the pool is too small.
  absl::StatusOr<Topology> Fit(bool fresh, const Waiting& waiting) const;
  bool FitsWholePool(const Waiting& waiting) const;

  std::map<int, Worker> workers_;                      // By world rank.
  std::map<std::pair<bool, int64_t>, Waiting> queue_;  // By (has not run yet, number).
};

}  // namespace imageddpo
