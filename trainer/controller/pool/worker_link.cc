#include "trainer/controller/pool/worker_link.h"

#include <chrono>
#include <utility>
#include <vector>

namespace imageddpo {
namespace {

constexpr std::chrono::milliseconds kPollInterval(100);
constexpr double kLookIntervalSeconds = 0.2;
constexpr int kMaxMessagesBeforeLook = 10000;

}  // namespace

WorkerLink::WorkerLink(const Options& options, ControllerChannel& channel, const Clock& clock,
                       OnMessage on_message, OnFailure on_failure)
    : options_(options),
      channel_(channel),
      clock_(clock),
      on_message_(std::move(on_message)),
      on_failure_(std::move(on_failure)),
      last_alive_s_(clock.NowSeconds()) {
  {
    const absl::MutexLock lock(&mutex_);
    for (const int rank : channel_.worker_ranks()) heard_[rank].time_s = clock_.NowSeconds();
  }
  thread_ = std::thread([this] { Run(); });
}

WorkerLink::~WorkerLink() {
  stop_.store(true);
  thread_.join();
}

std::map<int, double> WorkerLink::HeartbeatAges() const {
  const double now_s = clock_.NowSeconds();
  const absl::MutexLock lock(&mutex_);
  std::map<int, double> ages;
  for (const auto& [rank, heard] : heard_) {
    if (!heard.dead) ages[rank] = now_s - heard.time_s;
  }
  return ages;
}

std::map<int, v1::RankStats> WorkerLink::Stats() const {
  const absl::MutexLock lock(&mutex_);
  std::map<int, v1::RankStats> stats;
  for (const auto& [rank, heard] : heard_) {
    if (!heard.dead && heard.stats.resident_bytes() > 0) stats[rank] = heard.stats;
  }
  return stats;
}

void WorkerLink::Run() {
  double next_look_s = clock_.NowSeconds();
  while (!stop_.load()) {
    const bool received = ReceiveOne(kPollInterval);
    const double now_s = clock_.NowSeconds();
    SendLeases(now_s);
    if (received && now_s < next_look_s) continue;
    next_look_s = now_s + kLookIntervalSeconds;
    const std::vector<ControllerChannel::Failure> failures = channel_.TakeFailures();
    // Messages that a dead rank sent before are delivered before its failure.
    for (int i = 0; i < kMaxMessagesBeforeLook && ReceiveOne(std::chrono::milliseconds(0)); ++i) {
    }
    for (const ControllerChannel::Failure& failure : failures)
      Fail(failure.world_rank, failure.reason);
  }
}

bool WorkerLink::ReceiveOne(std::chrono::milliseconds timeout) {
  auto received = channel_.Receive(timeout);
  if (!received.has_value()) return false;
  const int rank = received->first;
  {
    const absl::MutexLock lock(&mutex_);
    const auto heard = heard_.find(rank);
    if (heard == heard_.end() || heard->second.dead) return true;
    heard->second.time_s = clock_.NowSeconds();
    if (received->second.has_heartbeat() && received->second.heartbeat().has_stats()) {
      heard->second.stats = received->second.heartbeat().stats();
    }
  }
  if (!received->second.has_heartbeat()) on_message_(rank, std::move(received->second));
  return true;
}

void WorkerLink::SendLeases(double now_s) {
  if (now_s < next_lease_s_ || now_s - last_alive_s_.load() > options_.stuck_seconds) return;
  next_lease_s_ = now_s + options_.lease_interval_seconds;
  ++lease_number_;
  for (const int rank : channel_.worker_ranks()) {
    v1::ControllerMessage message;
    message.mutable_lease()->set_number(lease_number_);
    channel_.Send(rank, std::move(message));
  }
}

void WorkerLink::Fail(int world_rank, const std::string& reason) {
  {
    const absl::MutexLock lock(&mutex_);
    const auto heard = heard_.find(world_rank);
    if (heard == heard_.end() || heard->second.dead) return;
    heard->second.dead = true;
  }
  on_failure_(world_rank, reason);
}

}  // namespace imageddpo
