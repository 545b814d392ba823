#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "common/comm/communicator.h"
#include "common/trajectory/record/trajectory.h"
#include "common/trajectory/record/wire.h"

namespace imageddpo {

/// The receiving end of one trainer rank for the records of all rollout ranks. Knows in advance
/// which record comes from whom, takes in what has arrived whenever it is polled, and hands out
/// whole epochs in order of micro-batch, whatever the order of arrival. Senders wait once they have
/// a few records under way that were not taken in, so a trainer polls it between micro-batches.
/// Thread-compatible; uses the gang's communicator on the caller's thread only.
class TrajectoryInbox {
 public:
  /// @param rollout_ranks  gang ranks, as ExpectedRecord::sampler numbers them.
  TrajectoryInbox(Communicator* gang, std::vector<int> rollout_ranks);

  /// The records of the epoch after the last one expected, by micro-batch. From now on they are
  /// taken in, so this bounds how many lie here.
  void Expect(const std::vector<ExpectedRecord>& records);

  /// Takes in what is there; does not block. @return INTERNAL naming field, rank and both values
  /// where a record is not the expected one. @throws CommError
  absl::Status Poll();

  /// The oldest expected epoch, complete. Blocks; others are taken in meanwhile.
  /// @param timeout  for each record. @param stopped  looked at between records: CANCELLED.
  /// @return as Poll(). @throws CommError
  absl::StatusOr<std::vector<TrajectoryBatch>> TakeEpoch(std::chrono::milliseconds timeout,
                                                         const std::function<bool()>& stopped);

 private:
  struct Slot {
    ExpectedRecord expected;
    bool has_head = false;
    TrajectoryBatch batch;
    std::vector<std::unique_ptr<Work>> works;  ///< Of latents and embeddings.
  };
  struct Source {
    int rank = 0;
    std::deque<std::shared_ptr<Slot>> expected;  ///< Whose head has not arrived yet.
    at::Tensor head;  ///< What is being received: the head's length [1], then the head.
    std::unique_ptr<Work> work;
    bool is_length = true;
  };

  absl::Status Advance(Source& source);
  absl::Status TakeHead(Source& source);
  void Receive(Source& source, int64_t size, bool is_length);
  /// Memory for latents: that of a record nobody holds any more, otherwise new.
  at::Tensor LatentsBuffer(at::IntArrayRef sizes);

  Communicator* gang_;
  std::vector<Source> sources_;
  std::deque<std::vector<std::shared_ptr<Slot>>> epochs_;
  std::vector<int64_t> shape_;  ///< Of the first record; fixed for a job.
  /// All latents handed out so far, at most as many as were in use at once. Touching fresh memory
  /// for every epoch costs the kernel as long as the transfer itself.
  std::vector<at::Tensor> buffers_;
};

}  // namespace imageddpo
