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
#include "common/trajectory/record/trajectory_wire.h"

namespace imageddpo {

/// The receiving end of one trainer rank for the records of all rollout ranks. It is told in
/// advance which record comes from whom, receives whatever has arrived each time it is polled, and
/// hands out complete epochs in order of micro-batch, whatever the order of arrival.
///
/// A sender blocks when a few of its records are under way and not received, so a trainer has to
/// poll between micro-batches. Thread-compatible; uses the gang's communicator on the caller's
/// thread only.
class TrajectoryInbox {
 public:
  /// @param rollout_ranks  gang ranks, indexed by ExpectedRecord::sampler.
  TrajectoryInbox(Communicator* gang, const std::vector<int>& rollout_ranks);

  /// Adds the records of the next epoch, by micro-batch. They are received from now on, so the
  /// number of expected epochs bounds the memory of the inbox.
  void Expect(const std::vector<ExpectedRecord>& records);

  /// Receives what has arrived; does not block.
  /// @return INTERNAL naming field, rank and both values if a record is not the expected one.
  /// @throws CommError
  absl::Status Poll();

  /// Returns the records of the oldest expected epoch. Blocks until all have arrived; records of
  /// other epochs are received meanwhile.
  /// @param timeout  for each record.
  /// @param stopped  called between records; true: CANCELLED is returned.
  /// @return as Poll().
  /// @throws CommError
  absl::StatusOr<std::vector<TrajectoryBatch>> TakeEpoch(std::chrono::milliseconds timeout,
                                                         const std::function<bool()>& stopped);

 private:
  struct Slot {
    ExpectedRecord expected;
    bool has_header = false;
    TrajectoryBatch batch;
    std::vector<std::unique_ptr<Work>> works;  ///< Of latents, means and embeddings.
  };
  struct Source {
    int rank = 0;
    std::deque<std::shared_ptr<Slot>> expected;  ///< Records whose header has not arrived yet.
    at::Tensor header;  ///< Being received: the header's length [1], then the header itself.
    std::unique_ptr<Work> work;
    bool is_length = true;
  };

  absl::Status Advance(Source& source);
  absl::Status TakeHeader(Source& source);
  void Receive(Source& source, int64_t size, bool is_length);
  /// Memory for latents or means: reuses that of a record that nobody holds any more, else
  /// allocates, in place of one of another size where there is one.
  at::Tensor LatentsBuffer(at::IntArrayRef sizes);

  Communicator* gang_;
  std::vector<Source> sources_;
  std::deque<std::vector<std::shared_ptr<Slot>>> epochs_;
  std::vector<int64_t> shape_;  ///< Of the first record; fixed for a job.
  /// All latents handed out so far, at most as many as were in use at once. Reused because the page
  /// faults of newly allocated memory cost as much time as the transfer itself.
  std::vector<at::Tensor> buffers_;
};

}  // namespace imageddpo
