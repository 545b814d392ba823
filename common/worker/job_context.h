#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/status.h>
#include <spdlog/logger.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/comm/communicator.h"
#include "common/worker/work_item.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// Tells a job on one rank to end early. Set once, from another thread; thread-safe.
class StopToken {
 public:
  void Request() { requested_.store(true, std::memory_order_release); }
  bool requested() const { return requested_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> requested_{false};
};

/// What a job may use on one rank. Owned by the worker while the job runs.
struct JobContext {
  const v1::StartJob& start;  ///< Spec (complete), gang layout, state to go on from.
  int gang_rank;              ///< This rank's index in start.gang().world_ranks().
  Communicator& gang;         ///< Every rank of the gang; gang.rank() == gang_rank.
  at::Device device;
  const Clock& clock;
  std::shared_ptr<spdlog::logger> logger;
  const StopToken& stop;  ///< Poll it between micro-batches.
  std::function<void(v1::WorkerMessage)>
      report;                  ///< To the controller; thread-safe, does not block.
  SpanLog* spans = nullptr;    ///< Where the job notes what it does when; null: nobody asks.
  StageMark* stage = nullptr;  ///< Where the job marks what it works on; null: nobody watches.

  Followers followers() const { return {.spans = spans, .stage = stage}; }
  /// Logs a warning and shows it with the job; the controller keeps only one of several equal
  /// warnings.
  void Warn(const std::string& message) const;
};

/// Runs one job on one rank from start to end. Blocks. Called on a thread of its own, on which the
/// number of intra-op threads has not been set yet. CANCELLED: stop was requested.
using JobFunction = std::function<absl::Status(JobContext&)>;

}  // namespace imageddpo
