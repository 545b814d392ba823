#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/comm/communicator.h"
#include "common/trajectory/record/trajectory.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {

/// Version of the wire form; both ends must have the same.
inline constexpr uint32_t kTrajectoryWireVersion = 2;

/// The sending end of one rollout rank to one trainer rank. Remembers which embeddings the trainer
/// has had. Thread-compatible.
///
/// Wire form, all tensors of one tag, in this order, so that the receiver knows each one's size
/// before it comes: the head's length in bytes (int64 [1]), the head (a TrajectoryHeader as uint8;
/// all that is small is in it), latents float32 [B,K+1,C,h,w] (if has_latents), then the new
/// embeddings [L,D]. On CPUs the tensors are sent from where they are: nothing large is copied but
/// by the transport.
class TrajectorySender {
 public:
  /// @param max_in_flight  records under way before Send() waits for the oldest: the receiver has
  ///                       not yet said where to. The backpressure.
  TrajectorySender(Communicator* gang, int to_rank, size_t max_in_flight = 4);
  TrajectorySender(TrajectorySender&&) = default;

  /// What of a record a trainer needs besides rewards and keys.
  struct Parts {
    bool latents = true;
    bool pictures = true;
  };

  /// Starts to send. `batch.new_embeddings` is the sender's whole table of what this batch uses;
  /// those that were sent before are left out, and without latents all of them are.
  /// @throws CommError
  void Send(const TrajectoryBatch& batch, const Parts& parts, std::chrono::milliseconds timeout);

  /// Waits until everything sent has left. @throws CommError
  void Flush(std::chrono::milliseconds timeout);

 private:
  using Record = std::vector<std::unique_ptr<Work>>;  ///< The works keep the tensors alive.
  Communicator* gang_;
  int to_rank_;
  size_t max_in_flight_;
  std::set<uint64_t> sent_embeddings_;
  std::deque<Record> in_flight_;
};

/// What a received record must be. Anything else means that two ranks disagree on the job.
struct ExpectedRecord {
  int sampler = 0;  ///< Index among the rollout ranks of the one that sends it.
  std::string job_id;
  int64_t epoch = 0;
  int64_t micro_batch = 0;
  int64_t batch_size = 0;
  int64_t weight_version = 0;
  bool with_latents = true;
};

/// The head of a record. A peer's word: nothing in it is used before it has been checked.
/// @param shape  B, K, C, h, w as those of the record before; empty for the first.
/// @return INTERNAL naming the field, rank and both values where it is not the expected one.
absl::Status CheckHeader(const v1::TrajectoryHeader& header, int from_rank,
                         const ExpectedRecord& expected, const std::vector<int64_t>& shape);

/// All of a record that its head holds; latents and embeddings are the receiver's to fill in.
TrajectoryBatch FromHeader(const v1::TrajectoryHeader& header);

}  // namespace imageddpo
