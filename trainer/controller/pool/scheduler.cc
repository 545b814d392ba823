#include "trainer/controller/pool/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/plan/nominal.h"
#include "trainer/controller/pool/gang_devices.h"

namespace imageddpo {

namespace {

/// A rank at work counts as if it had worked this much longer, so that of jobs that were submitted
/// together each owner gets one.
constexpr double kRankWorthSeconds = 60;

}  // namespace

Scheduler::Scheduler(const std::vector<int>& worker_ranks, const Options& options)
    : options_(options), share_(options.fair_share_half_life_s) {
  for (const int rank : worker_ranks) workers_[rank].world_rank = rank;
}

void Scheduler::WorkerReported(int world_rank, const v1::Hello& hello) {
  const auto worker = workers_.find(world_rank);
  if (worker == workers_.end()) return;
  ++version_;
  worker->second.hostname = hello.hostname();
  worker->second.pid = hello.pid();
  worker->second.process = {hello.process().host(), hello.process().pid(),
                            hello.process().start_ticks()};
  worker->second.device = hello.device();
  worker->second.device_id = hello.device_id();
  worker->second.device_name = hello.device_name();
  worker->second.host_memory_bytes = hello.host_memory_bytes();
  worker->second.device_memory_bytes = hello.device_memory_bytes();
  worker->second.cores = std::max(1, hello.cores());
  ForgetChoices();
}

std::string Scheduler::WorkerFailed(int world_rank) {
  const auto worker = workers_.find(world_rank);
  if (worker == workers_.end()) return "";
  ++version_;
  worker->second.dead = true;
  worker->second.died_at_work = !worker->second.job_id.empty();
  ForgetChoices();
  RanksLeft(worker->second.job_id, 1);
  return std::exchange(worker->second.job_id, "");
}

void Scheduler::SetDrained(int world_rank, bool drained) {
  ++version_;
  workers_.at(world_rank).drained = drained;
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

int Scheduler::MaxGangSize() const {
  const auto pool = static_cast<int>(workers_.size());
  return options_.ranks_per_owner == 0 ? pool : std::min(pool, options_.ranks_per_owner);
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
  std::map<std::string, Place> places;  // By GPU, or by host where there is none.
  for (const auto& [rank, worker] : workers_) {
    if (!worker.reported() || worker.dead) continue;
    const bool gpu = worker.device.starts_with("cuda");
    Place& place = places[gpu ? GpuOf(worker) : worker.hostname];
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
                        QueueStanding standing) {
  ++version_;
  QueuedJob place{.id = job_id,
                  .owner = std::move(standing.owner),
                  .recovers = standing.recovers,
                  .priority = standing.priority,
                  .number = number,
                  .seconds = standing.seconds};
  queue_.insert_or_assign(number,
                          Waiting{std::move(place), job, "", std::move(standing.model), {}});
}

bool Scheduler::IsQueued(const std::string& job_id) const {
  return std::any_of(queue_.begin(), queue_.end(),
                     [&](const auto& entry) { return entry.second.place.id == job_id; });
}

void Scheduler::RemoveFromQueue(const std::string& job_id) {
  ++version_;
  std::erase_if(queue_, [&](const auto& entry) { return entry.second.place.id == job_id; });
}

void Scheduler::Hold(const std::string& job_id, const std::string& reason) {
  ++version_;
  for (auto& [number, waiting] : queue_) {
    if (waiting.place.id == job_id) waiting.held_for = reason;
  }
}

void Scheduler::ReleaseHolds() {
  ++version_;
  for (auto& [number, waiting] : queue_) waiting.held_for.clear();
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
  for (auto& [number, waiting] : queue_) waiting.choices.clear();
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

absl::StatusOr<TopologyChoice> Scheduler::Fit(const Waiting& waiting) const {
  // Before all have reported, it would get only the workers that reported first.
  if (waiting.place.recovers && AllReported()) {
    absl::StatusOr<TopologyChoice> now = FitInto(waiting, std::min(num_free(), MaxGangSize()));
    if (now.ok()) return now;
  }
  return FitInto(waiting, std::min(num_usable(), MaxGangSize()));
}

bool Scheduler::FitsWholePool(const Waiting& waiting) const {
  return ChoiceOf(waiting, MaxGangSize()).ok();
}

bool Scheduler::FitsLivePool(const Waiting& waiting) const {
  return FitInto(waiting, std::min(pool_size(), MaxGangSize())).ok();
}

std::vector<QueuedJob> Scheduler::Places() const {
  std::vector<QueuedJob> places;
  places.reserve(queue_.size());
  for (const auto& [number, waiting] : queue_) {
    places.push_back(waiting.place);
    places.back().reserved = head_.has_value() && head_->job_id == waiting.place.id;
  }
  return places;
}

std::function<double(const std::string&)> Scheduler::Share() const {
  if (options_.fair_share_half_life_s <= 0) return [](const std::string&) { return 0.0; };
  return [this](const std::string& owner) {
    return share_.UsageOf(owner, now_s_) + kRankWorthSeconds * share_.RanksOf(owner);
  };
}

bool Scheduler::ExceedsQuota(const std::string& owner, int ranks) const {
  return options_.ranks_per_owner > 0 && share_.RanksOf(owner) + ranks > options_.ranks_per_owner;
}

std::vector<GangAtWork> Scheduler::AtWork(const GangForecasts& forecasts) const {
  std::vector<GangAtWork> at_work;
  for (const auto& [job_id, gang] : gangs_) {
    GangAtWork& entry = at_work.emplace_back(
        GangAtWork{.job_id = job_id, .number = gang.number, .ranks = gang.ranks});
    const auto forecast = forecasts.find(job_id);
    if (forecast == forecasts.end()) continue;
    entry.priority = forecast->second.priority;
    entry.seconds_left = forecast->second.seconds_left;
    entry.leaves = forecast->second.leaves;
  }
  return at_work;
}

std::vector<Scheduler::Gang> Scheduler::FormGangs(double now_s, const GangForecasts& forecasts) {
  now_s_ = now_s;
  std::vector<Gang> gangs;
  const std::vector<QueuedJob> places = Places();
  head_.reset();
  QueueOrder order(places, Share());
  while (const QueuedJob* const place = order.Next()) {
    const auto entry = queue_.find(place->number);
    const Waiting& waiting = entry->second;
    if (!waiting.held_for.empty()) continue;
    const absl::StatusOr<TopologyChoice> choice = Fit(waiting);
    if (!choice.ok()) {
      // It waits for a restart, which needs an idle pool: later jobs must not delay that.
      if (FitsWholePool(waiting) && !FitsLivePool(waiting)) break;
      continue;  // It was submitted to a larger pool, or needs drained workers: nobody waits for
                 // it.
    }
    const int needed = choice->topology.ranks();
    if (ExceedsQuota(place->owner, needed)) continue;
    if (head_.has_value() && !head_->reservation.Allows(needed, place->seconds)) continue;
    // It would be the first to make room for the head.
    if (head_.has_value() && options_.preempts && place->priority < head_->priority) continue;
    std::vector<int> ranks = ChooseRanks(needed);
    if (ranks.empty()) {
      if (!head_.has_value()) {
        head_ = Head{place->id, place->priority, needed,
                     Reserve(needed, num_free(), AtWork(forecasts))};
      }
      if (!options_.backfill) break;
      continue;
    }
    if (head_.has_value()) head_->reservation.Started(needed, place->seconds);
    gangs.push_back(FormGang(waiting, *choice, std::move(ranks)));
    queue_.erase(entry);
  }
  return gangs;
}

Scheduler::Gang Scheduler::FormGang(const Waiting& waiting, const TopologyChoice& choice,
                                    std::vector<int> ranks) {
  ++version_;
  const QueuedJob& place = waiting.place;
  const auto count = static_cast<int>(ranks.size());
  for (const int rank : ranks) workers_.at(rank).job_id = place.id;
  gangs_[place.id] = GangRanks{place.owner, place.number, count};
  share_.RanksChanged(place.owner, count, now_s_);
  usage_changed_ = true;
  return Gang{place.id, waiting.job, choice.topology, std::move(ranks), choice.why};
}

void Scheduler::RanksLeft(const std::string& job_id, int ranks) {
  const auto gang = gangs_.find(job_id);
  if (gang == gangs_.end()) return;
  share_.RanksChanged(gang->second.owner, -ranks, now_s_);
  gang->second.ranks -= ranks;
  usage_changed_ = true;
}

Scheduler::Preemption Scheduler::ToPreempt(const GangForecasts& forecasts) const {
  if (!options_.preempts || !head_.has_value()) return {};
  return {head_->job_id,
          ChoosePreempted(head_->ranks, head_->priority, num_free(), AtWork(forecasts))};
}

std::vector<FairShare::Usage> Scheduler::TakeUsage() {
  usage_changed_ = false;
  if (options_.fair_share_half_life_s <= 0) return {};
  return share_.Settle(now_s_);
}

std::string Scheduler::WaitsForTheDead() const {
  const std::vector<QueuedJob> places = Places();
  QueueOrder order(places, Share());
  while (const QueuedJob* const place = order.Next()) {
    const Waiting& waiting = queue_.at(place->number);
    if (!waiting.held_for.empty()) continue;
    if (!Fit(waiting).ok() && FitsWholePool(waiting) && !FitsLivePool(waiting)) return place->id;
  }
  return "";
}

void Scheduler::Release(const std::string& job_id) {
  ++version_;
  for (auto& [rank, worker] : workers_) {
    if (worker.job_id == job_id) worker.job_id.clear();
  }
  if (const auto gang = gangs_.find(job_id); gang != gangs_.end()) {
    RanksLeft(job_id, gang->second.ranks);
    gangs_.erase(gang);
  }
}

}  // namespace imageddpo
