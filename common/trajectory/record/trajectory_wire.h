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

/// Version of the wire form; both ends must have the same one.
inline constexpr uint32_t kTrajectoryWireVersion = 5;

/// Sends records from one rollout rank to one trainer rank. Remembers which embeddings the trainer
/// has got in the epoch under way: with every epoch they are sent anew, so that neither side keeps
/// more than an epoch's, however many prompts the images have. Thread-compatible.
///
/// A record is a sequence of tensors with one tag, in an order that tells the receiver each one's
/// size before it arrives:
///
///   1. the header's length in bytes: int64 [1]
///   2. the header: a serialised TrajectoryHeader, uint8, with everything small
///   3. if has_latents: latents, float32 [B,N,C,h,w], with N = NumLatents() of the header
///   4. if has_means: means, float32 [B,K,C,h,w]; if has_base_means: base_means, the same
///   5. the new embeddings, [L,D] each
///
/// On CPUs tensors are sent from where they are: only the transport copies anything large.
class TrajectorySender {
 public:
  /// @param max_in_flight  the number of records under way, not yet received, at which Send()
  ///                       blocks until the oldest has been received (backpressure).
  TrajectorySender(Communicator* gang, int to_rank, size_t max_in_flight = 4);
  TrajectorySender(TrajectorySender&&) = default;

  /// What a trainer needs of a record besides rewards and keys.
  struct Parts {
    bool latents = true;  ///< With the means that the record has.
    bool pictures = true;
  };

  /// Starts to send a record. Blocks only for backpressure, see max_in_flight.
  /// `batch.new_embeddings` must have all embeddings that the batch uses; those that the trainer
  /// has got in this epoch are left out, as are all of them when latents are not sent. The records
  /// of an epoch are sent one after the other.
  /// @throws CommError
  void Send(const TrajectoryBatch& batch, const Parts& parts, std::chrono::milliseconds timeout);

  /// Blocks until all sends are done. @throws CommError
  void Flush(std::chrono::milliseconds timeout);

 private:
  using Record = std::vector<std::unique_ptr<Work>>;  ///< The works keep the tensors alive.
  Communicator* gang_;
  int to_rank_;
  size_t max_in_flight_;
  int64_t epoch_ = -1;                  ///< Of the newest record.
  std::set<uint64_t> sent_embeddings_;  ///< In that epoch.
  std::deque<Record> in_flight_;
};

/// What the next record has to be. Any difference means that two ranks disagree on the job.
struct ExpectedRecord {
  int sampler = 0;  ///< The rollout rank that sends it, as an index among the rollout ranks.
  std::string job_id;
  int64_t epoch = 0;
  int64_t micro_batch = 0;
  int64_t batch_size = 0;
  int64_t weight_version = 0;
  bool with_latents = true;
  bool with_means = false, with_base_means = false;  ///< Only with latents.
};

/// Checks the header of a received record. Nothing in a header may be used before it was checked.
/// @param shape  B, K, C, h, w of the record before; empty for the first record.
/// @return INTERNAL naming the field, the rank and both values if it is not the expected one.
absl::Status CheckHeader(const v1::TrajectoryHeader& header, int from_rank,
                         const ExpectedRecord& expected, const std::vector<int64_t>& shape);

/// N: latents of each sample, of a header that was checked.
int64_t NumLatents(const v1::TrajectoryHeader& header);

/// The part of a record that its header holds; the receiver adds latents and embeddings.
TrajectoryBatch FromHeader(const v1::TrajectoryHeader& header);

}  // namespace imageddpo
