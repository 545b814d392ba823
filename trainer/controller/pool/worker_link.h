#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/comm/control_channel.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// The controller's end of the control channel, on a thread of its own: sends every worker its
/// lease, and passes on messages and failures, also while the controller's thread waits for a slow
/// disk. (The channel decides which worker counts as dead.) Thread-safe.
class WorkerLink {
 public:
  struct Options {
    double lease_interval_seconds = 1;
    /// When the controller's thread has not called Alive() for longer than this, leases stop, so
    /// that workers and launcher restart the service. Longer than any slow disk takes.
    double stuck_seconds = 60;
  };

  /// Called on the link's thread, in order; no message of a rank follows its failure.
  using OnMessage = std::function<void(int world_rank, v1::WorkerMessage message)>;
  using OnFailure = std::function<void(int world_rank, std::string reason)>;

  /// @param channel, clock  must outlive the link.
  WorkerLink(const Options& options, ControllerChannel& channel, const Clock& clock,
             OnMessage on_message, OnFailure on_failure);
  ~WorkerLink();
  WorkerLink(const WorkerLink&) = delete;
  WorkerLink& operator=(const WorkerLink&) = delete;

  /// To be called regularly by the controller's thread.
  void Alive() { last_alive_s_.store(clock_.NowSeconds()); }

  /// Seconds since each live worker was last heard.
  std::map<int, double> HeartbeatAges() const;
  /// What each live worker's newest heartbeat said of its process.
  std::map<int, v1::RankStats> Stats() const;

 private:
  struct Heard {
    double time_s = 0;
    bool dead = false;
    v1::RankStats stats;
  };

  void Run();
  bool ReceiveOne(std::chrono::milliseconds timeout);
  void SendLeases(double now_s);
  void Fail(int world_rank, const std::string& reason);

  const Options options_;
  ControllerChannel& channel_;
  const Clock& clock_;
  const OnMessage on_message_;
  const OnFailure on_failure_;
  std::atomic<double> last_alive_s_;
  std::atomic<bool> stop_ = false;
  double next_lease_s_ = 0;  // Used by the link's thread only, as is lease_number_.
  uint64_t lease_number_ = 0;
  mutable absl::Mutex mutex_;
  std::map<int, Heard> heard_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace imageddpo
