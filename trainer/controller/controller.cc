#include "trainer/controller/controller.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "trainer/controller/files/job_files.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kTickInterval = absl::Milliseconds(200);
constexpr int kMaxMailPerTick = 10000;
constexpr double kUnhealthyAfterSeconds = 5;
constexpr double kCheckIntervalSeconds = 1;
constexpr double kStoreCheckIntervalSeconds = 30;
constexpr double kSecondsPerHour = 3600;

}  // namespace

Controller::Controller(const ClusterConfig& cluster, const Dependencies& dependencies)
    : cluster_(cluster),
      dependencies_(dependencies),
      disk_use_(dependencies.store, dependencies.clock),
      table_({dependencies.store, dependencies.hub, dependencies.metrics, dependencies.job_metrics,
              dependencies.clock, dependencies.logger}),
      supervisor_({.health = {.min_ranks = static_cast<int>(cluster.pool.min_ranks)},
                   .running = {.stop_timeout_seconds = cluster.pool.stop_timeout_seconds},
                   .queue = {.fair_share_half_life_s =
                                 kSecondsPerHour * cluster.queue.fair_share_half_life_hours,
                             .backfill = cluster.queue.backfill,
                             .preempts = cluster.queue.preemption == "lower_priority",
                             .ranks_per_owner = static_cast<int>(cluster.quotas.running_ranks)},
                   .limits = {.max_jobs = cluster.queue.max_jobs,
                              .queued_jobs_of_owner = cluster.quotas.queued_jobs},
                   .max_restarts = static_cast<int>(cluster.pool.max_restarts),
                   .drain_seconds = cluster.pool.drain_seconds},
                  {dependencies.file_system, dependencies.clock, table_, dependencies.hub,
                   dependencies.metrics, dependencies.job_metrics, dependencies.logger,
                   [this](int world_rank, v1::ControllerMessage message) {
                     dependencies_.channel.Send(world_rank, std::move(message));
                   },
                   dependencies.ask_rewards == nullptr
                       ? std::function<void(const std::string&, const ResolvedJob&)>()
                       : [this](const std::string& job_id,
                                const ResolvedJob& job) { probe_->Put(job_id, job); }},
                  dependencies.channel.worker_ranks()),
      silence_watch_(cluster.pool.heartbeat_timeout_seconds, dependencies.metrics,
                     dependencies.logger),
      last_tick_s_(dependencies.clock.NowSeconds()) {
  if (dependencies.ask_rewards != nullptr) {
    probe_ = std::make_unique<RewardProbe>(
        dependencies.ask_rewards, [this](const std::string& job_id, bool is_back) {
          mailbox_.Put(
              Command([this, job_id, is_back] { supervisor_.OnRewardsAnswered(job_id, is_back); }));
        });
  }
  WorkerLink::Options options;
  options.lease_interval_seconds = std::min(1.0, cluster.pool.lease_seconds / 4);
  link_ = std::make_unique<WorkerLink>(
      options, dependencies_.channel, dependencies_.clock,
      [this](int rank, v1::WorkerMessage message) {
        mailbox_.Put(FromWorker{rank, std::move(message)});
      },
      [this](int rank, std::string reason) {
        mailbox_.Put(WorkerLost{rank, std::move(reason)});
      });
}

Controller::~Controller() = default;

absl::StatusOr<Controller::ExitReason> Controller::Run(
    const std::function<bool()>& stop_requested) {
  absl::StatusOr<ExitReason> reason = Loop(stop_requested);
  Close();
  for (const int rank : dependencies_.channel.worker_ranks()) {
    v1::ControllerMessage message;
    message.mutable_shutdown();
    dependencies_.channel.Send(rank, std::move(message));
  }
  return reason;
}

absl::StatusOr<Controller::ExitReason> Controller::Loop(
    const std::function<bool()>& stop_requested) {
  RemoveDeletedFolders(dependencies_.store);
  IMAGEDDPO_RETURN_IF_ERROR(supervisor_.ResumeStored());
  for (;;) {
    std::optional<Mail> mail = mailbox_.Take(kTickInterval);
    const double start_s = dependencies_.clock.NowSeconds();
    // Handle all mail before deadlines: a rank may have reported its end before it died.
    for (int i = 0; mail.has_value() && i < kMaxMailPerTick; ++i) {
      Handle(*std::move(mail));
      link_->Alive();
      last_tick_s_.store(dependencies_.clock.NowSeconds());
      mail = mailbox_.Take(absl::ZeroDuration());
    }
    if (mail.has_value()) Handle(*std::move(mail));
    Tick();
    dependencies_.metrics.Ticked(dependencies_.clock.NowSeconds() - start_s);
    if (!supervisor_.refusal().empty()) {
      supervisor_.Drain(absl::StrCat("the service ends: ", supervisor_.refusal()));
      return absl::FailedPreconditionError(supervisor_.refusal());
    }
    if (!supervisor_.restart_reason().empty()) {
      supervisor_.Drain(absl::StrCat("the service restarts: ", supervisor_.restart_reason()));
      return supervisor_.jobs_moved() ? ExitReason::kRestartAfterWork : ExitReason::kRestart;
    }
    if (stop_requested() && supervisor_.MayStop()) {
      supervisor_.Drain("the service was stopped; the job goes on when it is started again");
      return ExitReason::kStopped;
    }
  }
}

void Controller::Close() {
  mailbox_.Close();
  {
    const absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  while (std::optional<Mail> mail = mailbox_.Take(absl::ZeroDuration())) {
    if (auto* command = std::get_if<Command>(&*mail)) (*command)();  // Its caller waits.
  }
  dependencies_.hub.Close();
}

void Controller::Handle(Mail mail) {
  if (auto* from_worker = std::get_if<FromWorker>(&mail)) {
    supervisor_.OnMessage(from_worker->world_rank, std::move(from_worker->message));
  } else if (auto* lost = std::get_if<WorkerLost>(&mail)) {
    supervisor_.OnFailure(lost->world_rank, lost->reason);
  } else {
    std::get<Command>(mail)();
  }
}

void Controller::Tick() {
  supervisor_.Tick();
  link_->Alive();
  const double now_s = dependencies_.clock.NowSeconds();
  last_tick_s_.store(now_s);
  const bool reported = supervisor_.scheduler().AllReported();
  {
    const absl::MutexLock lock(&mutex_);
    workers_reported_ = reported;
  }
  std::map<int, double> ages_s = link_->HeartbeatAges();
  std::erase_if(ages_s, [this](const auto& entry) {
    const auto worker = supervisor_.scheduler().workers().find(entry.first);
    return worker->second.dead || !worker->second.reported();
  });
  silence_watch_.Look(ages_s);
  if (now_s < next_check_s_) return;
  next_check_s_ = now_s + kCheckIntervalSeconds;
  for (const auto& [rank, age_s] : ages_s) dependencies_.metrics.SetHeartbeatAge(rank, age_s);
  for (const auto& [rank, stats] : link_->Stats()) {
    if (ages_s.contains(rank)) dependencies_.metrics.SetRank(rank, stats);
  }
  dependencies_.job_metrics.Sweep(SteadyTime(now_s));
  absl::Status store_status = table_.Flush();
  if (store_status.ok() && now_s >= next_store_check_s_)
    store_status = dependencies_.store.CheckWritable();
  if (store_status.ok() && now_s >= next_store_check_s_)
    next_store_check_s_ = now_s + kStoreCheckIntervalSeconds;
  if (!store_status.ok()) next_store_check_s_ = now_s;
  const absl::MutexLock lock(&mutex_);
  store_status_ = std::move(store_status);
}

absl::Status Controller::WaitForWorkers(absl::Duration timeout) {
  const absl::MutexLock lock(&mutex_);
  const auto ready = [](Controller* controller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(controller->mutex_) {
    return controller->workers_reported_ || controller->closed_;
  };
  if (mutex_.AwaitWithTimeout(absl::Condition(+ready, this), timeout)) return absl::OkStatus();
  return WithReason(
      absl::UnavailableError("not all workers have started yet; try again in a few seconds"),
      Reason::kNotReady);
}

template <typename Result>
absl::StatusOr<Result> Controller::Ask(std::function<absl::StatusOr<Result>()> function,
                                       absl::Duration timeout) {
  struct Call {
    absl::Mutex mutex;
    bool abandoned ABSL_GUARDED_BY(mutex) = false;
    std::optional<absl::StatusOr<Result>> result ABSL_GUARDED_BY(mutex);
  };
  const auto call = std::make_shared<Call>();
  const bool taken = mailbox_.Put(Command([call, function = std::move(function)] {
    {
      const absl::MutexLock lock(&call->mutex);
      if (call->abandoned) return;
    }
    absl::StatusOr<Result> result = function();
    const absl::MutexLock lock(&call->mutex);
    call->result = std::move(result);
  }));
  if (!taken) {
    return WithReason(absl::UnavailableError("the service is ending; try again in a few seconds"),
                      Reason::kNotReady);
  }
  const absl::MutexLock lock(&call->mutex);
  const auto done = [](std::optional<absl::StatusOr<Result>>* result) {
    return result->has_value();
  };
  if (!call->mutex.AwaitWithTimeout(absl::Condition(+done, &call->result), timeout)) {
    call->abandoned = true;
    return absl::DeadlineExceededError(
        "the controller did not answer in time; it is busy or its disk is slow");
  }
  return *std::move(call->result);
}

absl::StatusOr<v1::Job> Controller::Do(Verb verb, absl::Duration timeout) {
  return Ask<v1::Job>(
      [this, verb = std::move(verb)] {
        absl::StatusOr<v1::Job> result = verb(supervisor_.jobs());
        if (result.ok()) {  // What is acknowledged is on disk.
          if (absl::Status stored = table_.CheckStored(result->id()); !stored.ok()) result = stored;
        }
        return result;
      },
      timeout);
}

absl::StatusOr<v1::Cluster> Controller::GetCluster(absl::Duration timeout) {
  return Ask<v1::Cluster>([this] { return absl::StatusOr<v1::Cluster>(ShowCluster()); }, timeout);
}

absl::StatusOr<v1::Cluster> Controller::Drain(const v1::DrainWorkerRequest& request,
                                              absl::Duration timeout) {
  return Ask<v1::Cluster>(
      [this, request]() -> absl::StatusOr<v1::Cluster> {
        IMAGEDDPO_RETURN_IF_ERROR(supervisor_.Drain(request));
        return ShowCluster();
      },
      timeout);
}

v1::Cluster Controller::ShowCluster() const {
  v1::Cluster cluster = supervisor_.Cluster(link_->HeartbeatAges());
  const Health health = GetHealth();
  cluster.set_healthy(health.ok);
  cluster.set_health(health.reason);
  return cluster;
}

Health Controller::GetHealth() const {
  const double age_s = dependencies_.clock.NowSeconds() - last_tick_s_.load();
  if (age_s > kUnhealthyAfterSeconds)
    return {false, absl::StrFormat("the controller has been stuck for %.1f s", age_s)};
  const absl::MutexLock lock(&mutex_);
  if (closed_) return {false, "the service is ending"};
  if (!store_status_.ok()) return {false, std::string(store_status_.message())};
  return {true, "ok"};
}

}  // namespace imageddpo
