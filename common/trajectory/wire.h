#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/comm/communicator.h"
#include "common/trajectory/trajectory.h"

namespace imageddpo {

/// Version of the wire form; both ends must have the same.
inline constexpr uint32_t kTrajectoryWireVersion = 1;

/// The sending end of one rollout rank to one trainer rank. Remembers which embeddings the trainer
/// has had. Thread-compatible.
///
/// Wire form, in order, on one tag: TrajectoryHeader (bytes), timesteps [B,K], log_probs [B,K],
/// rewards [B], parts [B,P], latents [B,K+1,C,h,w] (if has_latents), then the new embeddings [L,D].
class TrajectorySender {
 public:
  /// @param max_in_flight  records under way before Send() waits for the oldest: the backpressure.
  TrajectorySender(Communicator* gang, int to_rank, size_t max_in_flight = 4);

  /// Starts to send. `with_latents` false sends what every trainer needs: rewards and keys.
  /// `batch.new_embeddings` is the sender's whole table of what this batch uses; those that were
  /// sent before are left out.
  /// @throws CommError
  void Send(const TrajectoryBatch& batch, bool with_latents, std::chrono::milliseconds timeout);

  /// Waits until everything sent has left. @throws CommError
  void Flush(std::chrono::milliseconds timeout);

 private:
  struct Record {
    TrajectoryBatch batch;  ///< Keeps the tensors alive.
    std::vector<std::unique_ptr<Work>> works;
  };
  Communicator* gang_;
  int to_rank_;
  size_t max_in_flight_;
  std::set<uint64_t> sent_embeddings_;
  std::vector<Record> in_flight_;
};

/// What a received record must be. Anything else means that two ranks disagree on the job.
struct ExpectedRecord {
  std::string job_id;
  int64_t epoch = 0;
  int64_t micro_batch = 0;
  int64_t batch_size = 0;
  int64_t weight_version = 0;
  bool with_latents = true;
};

/// Receives the next record of `from_rank`. Blocks.
/// @return INTERNAL naming the field, rank and both values where the record is not the expected
/// one.
/// @throws CommError
absl::StatusOr<TrajectoryBatch> ReceiveTrajectory(Communicator* gang, int from_rank,
                                                  const ExpectedRecord& expected,
                                                  std::chrono::milliseconds timeout);

}  // namespace imageddpo
