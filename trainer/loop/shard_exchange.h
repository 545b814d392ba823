#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "common/comm/communicator.h"
#include "common/config/choices.h"

namespace imageddpo {

/// What the T trainer ranks of a gang exchange in an update: gradients, which are added up, and
/// statistics. One trainer exchanges nothing and needs no gang. Thread-compatible.
///
/// A gradient has P values and is the sum of V shards, each computed by one trainer.
///
/// - kExact adds the shards in their order, so that every number of trainers gets the same bits.
///   The parameters are cut into T slices, one for each trainer. For each shard it computed, a
///   trainer sends every other trainer that trainer's slice; it adds the V shards of its own slice,
///   and all gather the summed slices. It receives
///       (V - own shards) · ⌈P/T⌉ + (T - 1) · ⌈P/T⌉ floats,
///   at most (⌈V/T⌉ + 1) · P except for rounding; at its peak it holds its own shards, the others'
///   of its slice and the slice's sum: less than (2⌈V/T⌉ + 1) · P floats, and no less than 2P.
/// - kFast adds a trainer's own shards and leaves the rest to the transport's all-reduce. It
///   receives about 2P floats and holds 2P. The order of the additions, and so the last bits,
///   depend on T and on the transport.
///
/// With one trainer both add the shards one after the other and hold two gradients.
class ShardExchange {
 public:
  /// @param gang           the whole gang; only the trainers below take part.
  /// @param trainer_ranks  gang ranks of the trainers, ascending.
  /// @param my_index       of this rank among them.
  /// @param timeout        for each wait for another trainer.
  ShardExchange(Communicator* gang, std::vector<int> trainer_ranks, int my_index, ReduceKind reduce,
                std::chrono::milliseconds timeout);

  int my_index() const { return my_index_; }
  int num_trainers() const { return group_.size(); }

  /// Index of the trainer that computes a gradient shard or a row; the same everywhere.
  using Owner = std::function<int(int64_t)>;
  /// Computes a shard of this rank: [P] float32, held by nobody else.
  using Compute = std::function<absl::StatusOr<at::Tensor>(int64_t shard)>;

  /// The sum [P] of all gradient shards, on the shards' device, or where the gang's tensors travel
  /// from (Communicator::transfer_device()). Calls `compute` for
  /// the shards of this rank, in order, then blocks until all trainers have done so.
  /// @param num_shards      V >= 1. @param num_parameters  P.
  /// @return what `compute` returned if it is an error; nothing has been exchanged then.
  /// @throws CommError  kTimeout: a trainer did not join in time. kPeerFailed, kAborted: at once.
  ///                    kTransport: P differs between two ranks.
  absl::StatusOr<at::Tensor> SumShards(int64_t num_shards, int64_t num_parameters,
                                       const Owner& owner_of_shard, const Compute& compute);

  /// Sends the rows of a [V, ...] tensor to all trainers, in place. Blocks.
  /// @param rows_V  contiguous, on the CPU, same shape and dtype everywhere.
  /// @throws CommError  as above; after kTransport the gang stays usable.
  void AllGatherRows(const at::Tensor& rows_V, const Owner& owner_of_row);

  /// Compares texts of one length, such as hashes, among all trainers. Blocks.
  /// @return  the indices of the trainers whose text is not the first trainer's.
  /// @throws CommError  as above.
  std::vector<int> Differing(std::string_view text);

 private:
  /// @param own_P  the shards of this rank, in order; released when they have been sent.
  at::Tensor SumInOrder(int64_t num_shards, int64_t num_parameters, const Owner& owner_of_shard,
                        std::vector<at::Tensor> own_P);

  Communicator* gang_;
  RankGroup group_;
  int my_index_;
  ReduceKind reduce_;
  std::chrono::milliseconds timeout_;
};

}  // namespace imageddpo
