#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/process.h"
#include "common/config/resolved_job.h"
#include "common/model_config/model_count.h"
#include "common/plan/choose.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/pool/fair_share.h"
#include "trainer/controller/pool/queue_policy.h"

namespace imageddpo {

/// What decides about a job's place in the queue, beside its number.
struct QueueStanding {
  bool recovers = false;  ///< It ran before, and takes the ranks that are free at once, even fewer
                          ///< than it had if its topology allows that.
  int32_t priority = 0;
  std::string owner = "";
  double seconds = kUnknownSeconds;                ///< For how long it will need its ranks.
  std::optional<ModelCount> model = std::nullopt;  ///< For `topology: auto`; not set: not known.
};

/// What is known of a job that has ranks.
struct GangForecast {
  int32_t priority = 0;
  double seconds_left = kUnknownSeconds;  ///< Until its ranks are free.
  bool leaves = false;                    ///< It was told to give its ranks back.
};
using GangForecasts = std::map<std::string, GangForecast>;  // By job id.

/// The pool of workers and the job queue: decides which ranks work for which job. The order is that
/// of QueueOrder. No job delays one before it that fits the pool, either as it is now or as it was
/// started: ranks are kept for the first job that has to wait (Reservation), and others go past it
/// only as far as that allows. Only decides: sends and stores nothing. Thread-compatible.
class Scheduler {
 public:
  struct Options {
    double fair_share_half_life_s = 0;  ///< 0: owners do not matter.
    bool backfill = true;               ///< false: nobody goes past a job that waits for ranks.
    bool preempts = false;              ///< See ToPreempt().
    int ranks_per_owner = 0;            ///< At work at the same time; 0: no limit.
  };

  struct Worker {
    int world_rank = 0;
    std::string hostname;  ///< Empty until the worker has reported.
    int pid = 0;
    ProcessId process;
    std::string device, device_id, device_name;  ///< As in Hello.
    int cores = 0;
    int64_t host_memory_bytes = 0, device_memory_bytes = 0;  ///< 0: not known.
    std::string job_id;                                      ///< The job it works for; empty: idle.
    bool dead = false;
    bool died_at_work = false;  ///< It worked for a job when it died.
    bool drained = false;       ///< It gets no job; it may still work for one.
    bool reported() const { return cores > 0; }
    bool free() const { return reported() && !dead && !drained && job_id.empty(); }
  };

  explicit Scheduler(const std::vector<int>& worker_ranks) : Scheduler(worker_ranks, Options()) {}
  Scheduler(const std::vector<int>& worker_ranks, const Options& options);

  /// The worker has sent Hello. Ranks that are not workers are ignored.
  void WorkerReported(int world_rank, const v1::Hello& hello);
  /// The worker is dead. @return the job it worked for; empty: none.
  std::string WorkerFailed(int world_rank);

  /// From now on the worker gets no job, or gets jobs again. It must be one of workers().
  void SetDrained(int world_rank, bool drained);

  const std::map<int, Worker>& workers() const { return workers_; }
  int pool_size() const;  ///< Workers that are not dead.
  int num_dead() const { return static_cast<int>(workers_.size()) - pool_size(); }
  int num_usable() const;  ///< Of those, the ones that are not drained.
  int num_free() const;
  int MaxGangSize() const;   ///< Ranks of the largest gang that one job may ever get.
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

  /// Puts a job into the queue.
  /// @param number  JobRecord::number.
  void Enqueue(int64_t number, const std::string& job_id, const ResolvedJob& job,
               QueueStanding standing = {});
  bool IsQueued(const std::string& job_id) const;
  bool queue_is_empty() const { return queue_.empty(); }
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
  /// @param now_s      Seconds since 1970, for the shares of owners.
  /// @param forecasts  Of jobs that have ranks. Of one that is missing nothing is known.
  std::vector<Gang> FormGangs(double now_s = 0, const GangForecasts& forecasts = {});
  /// The job's ranks are free again.
  void Release(const std::string& job_id);

  /// The first job in the queue that fits the pool as it was started, but not without the dead
  /// workers; empty: none.
  std::string WaitsForTheDead() const;

  /// Increases whenever the queue, the pool or a gang changes.
  uint64_t version() const { return version_; }

  /// Why each job in the queue waits, by job id, as of the last FormGangs().
  std::map<std::string, std::string> WaitReasons() const;

  struct Preemption {
    std::string job_id;             ///< It waits,
    std::vector<std::string> from;  ///< and these are to give their ranks back for it.
  };
  bool preempts() const { return options_.preempts; }
  /// What Options::preempts asks for, as of the last FormGangs(); `from` is empty: nothing.
  Preemption ToPreempt(const GangForecasts& forecasts) const;

  /// What owners have taken, as it is to be stored: FairShare::Settle() with the last time that
  /// FormGangs() was told. Empty without shares.
  std::vector<FairShare::Usage> TakeUsage();
  /// Whether a gang was formed or released since TakeUsage().
  bool usage_changed() const { return usage_changed_; }
  void LoadUsage(const FairShare::Usage& usage) { share_.Load(usage); }

 private:
  struct Waiting {
    QueuedJob place;
    ResolvedJob job;
    std::string held_for;  // Not empty: it gets no ranks.
    std::optional<ModelCount> model;
    /// What Choose() said, by number of ranks, since a worker has reported or died: it is asked for
    /// with every look at the queue.
    mutable std::map<int, absl::StatusOr<TopologyChoice>> choices;
  };
  struct GangRanks {
    std::string owner;
    int64_t number = 0;
    int ranks = 0;
  };
  /// The first job that has to wait for ranks.
  struct Head {
    std::string job_id;
    int32_t priority = 0;
    int ranks = 0;
    Reservation reservation;
  };

  /// What WaitReasons() and FormGangs() look at, in the order of the queue.
  std::vector<QueuedJob> Places() const;
  std::function<double(const std::string&)> Share() const;
  bool ExceedsQuota(const std::string& owner, int ranks) const;
  std::vector<GangAtWork> AtWork(const GangForecasts& forecasts) const;
  Gang FormGang(const Waiting& waiting, const TopologyChoice& choice, std::vector<int> ranks);
  void RanksLeft(const std::string& job_id, int ranks);
  std::string WaitReason(const Waiting& waiting, std::string* first) const;
  std::vector<int> ChooseRanks(int count) const;
  const absl::StatusOr<TopologyChoice>& ChoiceOf(const Waiting& waiting, int num_ranks) const;
  absl::StatusOr<TopologyChoice> FitInto(const Waiting& waiting, int num_ranks) const;
  /// The topology of the gang that the job waits for; an error if the live workers are too few.
  absl::StatusOr<TopologyChoice> Fit(const Waiting& waiting) const;
  bool FitsWholePool(const Waiting& waiting) const;
  bool FitsLivePool(const Waiting& waiting) const;  // With the drained workers.
  void ForgetChoices();

  const Options options_;
  std::map<int, Worker> workers_;           // By world rank.
  std::map<int64_t, Waiting> queue_;        // By number.
  std::map<std::string, GangRanks> gangs_;  // By job id.
  FairShare share_;
  double now_s_ = 0;
  std::optional<Head> head_;
  bool usage_changed_ = false;
  uint64_t version_ = 1;
};

}  // namespace imageddpo
