#include "trainer/controller/pool/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/plan/nominal.h"

namespace imageddpo {

Scheduler::Scheduler(const std::vector<int>& worker_ranks) {
  for (const int rank : worker_ranks) workers_[rank].world_rank = rank;
}

void Scheduler::WorkerReported(int world_rank, const v1::Hello& hello) {
  const auto worker = workers_.find(world_rank);
  if (worker == workers_.end()) return;
  worker->second.hostname = hello.hostname();
  worker->second.pid = hello.pid();
  worker->second.process = {hello.process().host(), hello.process().pid(),
                            hello.process().start_ticks()};
  worker->second.device = hello.device();
  worker->second.host_memory_bytes = hello.host_memory_bytes();
  worker->second.device_memory_bytes = hello.device_memory_bytes();
  worker->second.cores = std::max(1, hello.cores());
  ForgetChoices();
}

std::string Scheduler::WorkerFailed(int world_rank) {
  const auto worker = workers_.find(world_rank);
  if (worker == workers_.end()) return "";
  worker->second.dead = true;
  worker->second.died_at_work = !worker->second.job_id.empty();
  ForgetChoices();
  return std::exchange(worker->second.job_id, "");
}

int Scheduler::pool_size() const {
  return static_cast<int>(std::count_if(workers_.begin(), workers_.end(),
                                        [](const auto& entry) { return !entry.second.dead; }));
}

int Scheduler::num_usable() const {
  return static_cast<int>(std::count_if(workers_.begin(), workers_.end(), [](const auto& entry) {
    return !entry.second.dead && !entry.second.drained;
  }));
}

int Scheduler::num_free() const {
  return static_cast<int>(std::count_if(workers_.begin(), workers_.end(),
                                        [](const auto& entry) { return entry.second.free(); }));
}

bool Scheduler::AllReported() const {
  return std::all_of(workers_.begin(), workers_.end(), [](const auto& entry) {
    return entry.second.dead || entry.second.reported();
  });
}

int Scheduler::MinCoresPerHost() const {
  int cores = 0;
  for (const auto& [rank, worker] : workers_) {
    if (worker.reported() && (cores == 0 || worker.cores < cores)) cores = worker.cores;
  }
  return std::max(1, cores);
}

int Scheduler::MaxWorkersPerHost() const {
  std::map<std::string, int> count_by_host;
  int most = 1;
  for (const auto& [rank, worker] : workers_) {
    if (!worker.dead) most = std::max(most, ++count_by_host[worker.hostname]);
  }
  return most;
}

bool Scheduler::OnGpus() const {
  int gpus = 0;
  for (const auto& [rank, worker] : workers_) {
    if (!worker.reported()) continue;
    if (!worker.device.starts_with("cuda")) return false;
    ++gpus;
  }
  return gpus > 0;
}

Scheduler::RankMemory Scheduler::MemoryOfRank(int gang_size) const {
  struct Place {
    int workers = 0;
    double bytes = 0;
  };
  std::map<std::pair<std::string, std::string>, Place> places;  // By host, and GPU or none.
  for (const auto& [rank, worker] : workers_) {
    if (!worker.reported() || worker.dead) continue;
    const bool gpu = worker.device.starts_with("cuda");
    Place& place = places[{worker.hostname, gpu ? worker.device : ""}];
    place.bytes = static_cast<double>(gpu ? worker.device_memory_bytes : worker.host_memory_bytes);
    ++place.workers;
  }
  RankMemory least;
  for (const auto& [unused, place] : places) {
    if (place.bytes <= 0) continue;
    const RankMemory here = {.share = place.bytes / place.workers,
                             .most = place.bytes / std::min(place.workers, std::max(1, gang_size))};
    if (least.share <= 0 || here.share < least.share) least.share = here.share;
    if (least.most <= 0 || here.most < least.most) least.most = here.most;
  }
  return least;
}

absl::StatusOr<TopologyChoice> Scheduler::Choose(const ResolvedJob& job,
                                                 const std::optional<ModelCount>& model,
                                                 int num_ranks) const {
  const double bytes = job.micro_batch_is_open() ? 0 : MemoryOfRank(num_ranks).most;
  return ChooseTopology(job, num_ranks,
                        NominalInputs(model, OnGpus(), std::max(0.0, bytes - kProcessBytes)));
}

void Scheduler::Enqueue(int64_t number, const std::string& job_id, const ResolvedJob& job,
                        bool recovers, const std::optional<ModelCount>& model, int32_t priority) {
  queue_.insert_or_assign({!recovers, priority, number}, Waiting{job_id, job, "", model, {}});
}

bool Scheduler::IsQueued(const std::string& job_id) const {
  return std::any_of(queue_.begin(), queue_.end(),
                     [&](const auto& entry) { return entry.second.job_id == job_id; });
}

void Scheduler::RemoveFromQueue(const std::string& job_id) {
  std::erase_if(queue_, [&](const auto& entry) { return entry.second.job_id == job_id; });
}

void Scheduler::Hold(const std::string& job_id, const std::string& reason) {
  for (auto& [place, waiting] : queue_) {
    if (waiting.job_id == job_id) waiting.held_for = reason;
  }
}

void Scheduler::ReleaseHolds() {
  for (auto& [place, waiting] : queue_) waiting.held_for.clear();
}

std::vector<int> Scheduler::ChooseRanks(int count) const {
  std::map<std::string, std::vector<int>> free_by_host;
  for (const auto& [rank, worker] : workers_) {
    if (worker.free()) free_by_host[worker.hostname].push_back(rank);
  }
  // The fullest host with room for the whole gang; if there is none, the hosts with most room.
  const std::vector<int>* whole = nullptr;
  std::vector<const std::vector<int>*> hosts;
  for (const auto& [hostname, ranks] : free_by_host) {
    hosts.push_back(&ranks);
    const bool fits = ranks.size() >= static_cast<size_t>(count);
    if (fits && (whole == nullptr || ranks.size() < whole->size())) whole = &ranks;
  }
  if (whole != nullptr) {
    hosts = {whole};
  } else {
    std::stable_sort(hosts.begin(), hosts.end(),
                     [](const auto* a, const auto* b) { return a->size() > b->size(); });
  }
  std::vector<int> chosen;
  for (const std::vector<int>* ranks : hosts) {
    for (const int rank : *ranks) {
      if (chosen.size() < static_cast<size_t>(count)) chosen.push_back(rank);
    }
  }
  return chosen.size() == static_cast<size_t>(count) ? chosen : std::vector<int>();
}

void Scheduler::ForgetChoices() {
  for (auto& [place, waiting] : queue_) waiting.choices.clear();
}

const absl::StatusOr<TopologyChoice>& Scheduler::ChoiceOf(const Waiting& waiting,
                                                          int num_ranks) const {
  const auto known = waiting.choices.find(num_ranks);
  if (known != waiting.choices.end()) return known->second;
  return waiting.choices.emplace(num_ranks, Choose(waiting.job, waiting.model, num_ranks))
      .first->second;
}

absl::StatusOr<TopologyChoice> Scheduler::FitInto(const Waiting& waiting, int num_ranks) const {
  absl::StatusOr<TopologyChoice> choice = ChoiceOf(waiting, num_ranks);
  if (!choice.ok() || !IsAuto(waiting.job.spec().topology()) || !choice->topology.colocated) {
    return choice;
  }
  const absl::StatusOr<TopologyChoice>& whole =
      ChoiceOf(waiting, static_cast<int>(workers_.size()));
  const bool was_split = whole.ok() && !whole->topology.colocated;
  if (was_split && (!choice->fits || MemoryOfRank(num_ranks).most <= 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat("`topology: auto` does not make ", choice->topology.ToString(), " of ",
                     whole->topology.ToString(), ": a rank would take the memory of both"));
  }
  return choice;
}

absl::StatusOr<TopologyChoice> Scheduler::Fit(const Place& place, const Waiting& waiting) const {
  // Before all have reported, it would get only the workers that reported first.
  if (!place.fresh && AllReported()) {
    absl::StatusOr<TopologyChoice> now = FitInto(waiting, num_free());
    if (now.ok()) return now;
  }
  return FitInto(waiting, num_usable());
}

bool Scheduler::FitsWholePool(const Waiting& waiting) const {
  return ChoiceOf(waiting, static_cast<int>(workers_.size())).ok();
}

bool Scheduler::FitsLivePool(const Waiting& waiting) const {
  return FitInto(waiting, pool_size()).ok();
}

std::vector<Scheduler::Gang> Scheduler::FormGangs() {
  std::vector<Gang> gangs;
  for (auto waiting = queue_.begin(); waiting != queue_.end();) {
    if (!waiting->second.held_for.empty()) {
      ++waiting;
      continue;
    }
    const absl::StatusOr<TopologyChoice> choice = Fit(waiting->first, waiting->second);
    if (!choice.ok()) {
      // It waits for a restart, which needs an idle pool: later jobs must not delay that.
      if (FitsWholePool(waiting->second) && !FitsLivePool(waiting->second)) break;
      // It was submitted to a larger pool, or needs drained workers: the others do not wait for it.
      ++waiting;
      continue;
    }
    std::vector<int> ranks = ChooseRanks(choice->topology.ranks());
    if (ranks.empty()) break;
    for (const int rank : ranks) workers_.at(rank).job_id = waiting->second.job_id;
    gangs.push_back(Gang{waiting->second.job_id, waiting->second.job, choice->topology,
                         std::move(ranks), choice->why});
    waiting = queue_.erase(waiting);
  }
  return gangs;
}

std::string Scheduler::WaitsForTheDead() const {
  for (const auto& [place, waiting] : queue_) {
    if (!waiting.held_for.empty()) continue;
    if (!Fit(place, waiting).ok() && FitsWholePool(waiting) && !FitsLivePool(waiting)) {
      return waiting.job_id;
    }
  }
  return "";
}

void Scheduler::Release(const std::string& job_id) {
  for (auto& [rank, worker] : workers_) {
    if (worker.job_id == job_id) worker.job_id.clear();
  }
}

std::map<std::string, std::string> Scheduler::WaitReasons() const {
  std::map<std::string, std::string> reasons;
  std::string first;
  for (const auto& [place, waiting] : queue_) {
    std::string& reason = reasons[waiting.job_id];
    if (!waiting.held_for.empty()) {
      reason = waiting.held_for;
      continue;
    }
    const absl::StatusOr<TopologyChoice> choice = Fit(place, waiting);
    if (!choice.ok() && FitsLivePool(waiting)) {
      reason = absl::StrCat("waits for drained workers: ", pool_size() - num_usable(), " of ",
                            workers_.size(), " are drained; ", choice.status().message());
    } else if (!choice.ok() && first.empty() && FitsWholePool(waiting)) {
      first = waiting.job_id;
      reason = absl::StrCat(
          "waits until all ranks are started again, as soon as no job runs: ", num_dead(), " of ",
          workers_.size(), " workers died; ", choice.status().message());
    } else if (!choice.ok() && !FitsWholePool(waiting)) {
      reason = absl::StrCat("waits for more workers: ", choice.status().message());
    } else if (!first.empty()) {
      reason = absl::StrCat("waits behind ", first);
    } else {
      first = waiting.job_id;
      reason = absl::StrCat("waits for ", choice->topology.ranks(),
                            choice->topology.ranks() == 1 ? " free worker" : " free workers", ": ",
                            num_free(), " of ", num_usable(),
                            num_usable() == 1 ? " is free" : " are free");
    }
  }
  return reasons;
}

}  // namespace imageddpo
