#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/mailbox/transfer.h"
#include "common/comm/nccl/gpu_stream.h"
#include "common/comm/nccl/grant_scheduler.h"
#include "common/comm/nccl/nccl_api.h"

namespace imageddpo {

/// One call of a communicator, until it is done. Keeps the tensors alive.
struct NcclOperation {
  OperationSpec spec;
  at::Tensor tensor;                   ///< Sent, received into, or changed in place.
  at::Tensor output;                   ///< For an all-gather.
  std::unique_ptr<GpuEvent> ready;     ///< Done when the caller's stream has reached the call.
  std::shared_ptr<Transfer> transfer;  ///< Completed or failed at the end.
};

/// Deadlines for NCCL. Their time starts after all participants of a round have agreed to it.
struct NcclDeadlines {
  /// For making a communicator: threads, connections, buffers on every rank.
  std::chrono::milliseconds setup{60'000};
  /// For the transfers of one round.
  std::chrono::milliseconds round{60'000};
  /// For one call to return. NCCL's calls do not block, but they hang if the driver does.
  std::chrono::milliseconds call{30'000};
  /// For the issuing thread to end when the communicator is closed; then it is abandoned.
  std::chrono::milliseconds close{10'000};
};

/// Runs the rounds that the scheduler starts, one at a time, over NCCL communicators: one for each
/// pair that exchanges tensors, and one for the collectives, each made when first needed. All calls
/// except AbortAll() come from the issuing thread; none blocks.
/// @throws CommError  kPeerFailed (NCCL: remote error), kTimeout (deadline), kTransport (the rest).
class NcclRounds {
 public:
  NcclRounds(NcclApi api, std::unique_ptr<GpuStream> stream, int rank,
             const NcclDeadlines& deadlines);

  GpuStream& stream() { return *stream_; }

  /// A new id if these ranks have no communicator yet, otherwise "".
  std::string NewCommId(const std::vector<std::int32_t>& participants);

  /// @param operations  those of round.operations, in that order.
  void Start(const GrantScheduler::Round& round,
             std::vector<std::shared_ptr<NcclOperation>> operations);

  /// Whether a round is under way.
  bool busy() const { return phase_ != Phase::kIdle; }

  /// Makes progress with the current round. @return true once, when it is over.
  bool Poll();

  /// Ends what is running and frees all communicators; nothing can be started afterwards.
  /// Idempotent. Any thread may call it, but while the issuing thread is inside a call only as a
  /// last resort.
  void AbortAll();

 private:
  enum class Phase { kIdle, kSetup, kQueued, kRunning };
  using Clock = std::chrono::steady_clock;

  void Queue();
  void QueueCopies();
  NcclResult Issue(const NcclOperation& operation);
  int IndexOf(std::int32_t rank) const;
  /// After AbortAll() no NCCL call may use a communicator any more.
  void ThrowIfAborted();
  NcclResult State();
  void Check(NcclResult result, const char* what);
  void CheckDeadline(const char* what) const;

  const NcclApi api_;
  const std::unique_ptr<GpuStream> stream_;
  const int rank_;
  const NcclDeadlines deadlines_;

  Phase phase_ = Phase::kIdle;
  GrantScheduler::Round round_;
  std::vector<std::shared_ptr<NcclOperation>> operations_;
  NcclComm comm_ = nullptr;  // Of the current round; null if nothing leaves the device.
  std::unique_ptr<GpuEvent> event_;
  Clock::time_point deadline_;

  absl::Mutex mutex_;
  std::map<std::vector<std::int32_t>, NcclComm> comms_ ABSL_GUARDED_BY(mutex_);
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace imageddpo
