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

/// One call of a communicator until it is done. Keeps the tensors alive.
struct NcclOperation {
  OperationSpec spec;
  at::Tensor tensor;                   ///< Sent, received into, or changed in place.
  at::Tensor output;                   ///< Of an all-gather.
  std::unique_ptr<GpuEvent> ready;     ///< The caller's stream has come to the call.
  std::shared_ptr<Transfer> transfer;  ///< Completed or failed at the end.
};

/// How long NCCL may take; all participants of a round have agreed to it before the time starts.
struct NcclDeadlines {
  /// To make a communicator: threads, connections, buffers on every rank.
  std::chrono::milliseconds setup{60'000};
  /// For the transfers of one round.
  std::chrono::milliseconds round{60'000};
  /// For one call to return. All are said not to block; a driver that hangs does.
  std::chrono::milliseconds call{30'000};
  /// For the issuing thread to end when the communicator is closed; then it is left behind.
  std::chrono::milliseconds close{10'000};
};

/// Carries out the rounds that the scheduler starts, one at a time, over NCCL communicators that
/// are made when a group of ranks first needs one: one for each pair that exchanges tensors, one
/// for the collectives. All calls but AbortAll() come from the issuing thread; none blocks.
/// @throws CommError  kPeerFailed (NCCL: remote error), kTimeout (deadline), kTransport (the rest).
class NcclRounds {
 public:
  NcclRounds(NcclApi api, std::unique_ptr<GpuStream> stream, int rank,
             const NcclDeadlines& deadlines);

  GpuStream& stream() { return *stream_; }

  /// A new id where these ranks have no communicator yet, otherwise nothing.
  std::string NewCommId(const std::vector<std::int32_t>& participants);

  /// @param operations  of round.operations, in that order.
  void Start(const GrantScheduler::Round& round,
             std::vector<std::shared_ptr<NcclOperation>> operations);

  /// Whether a round is under way.
  bool busy() const { return phase_ != Phase::kIdle; }

  /// Moves the round on. @return true once, when it is over.
  bool Poll();

  /// Ends what runs and frees all communicators; nothing can be started afterwards. Idempotent. Any
  /// thread may call it, but while the issuing thread is inside a call only as the last resort.
  void AbortAll();

 private:
  enum class Phase { kIdle, kSetup, kQueued, kRunning };
  using Clock = std::chrono::steady_clock;

  void Queue();
  void QueueCopies();
  NcclResult Issue(const NcclOperation& operation);
  int IndexOf(std::int32_t rank) const;
  /// After it no call may name a communicator.
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
  NcclComm comm_ = nullptr;  // Of the round; none where nothing leaves the device.
  std::unique_ptr<GpuEvent> event_;
  Clock::time_point deadline_;

  absl::Mutex mutex_;
  std::map<std::vector<std::int32_t>, NcclComm> comms_ ABSL_GUARDED_BY(mutex_);
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace imageddpo
