#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <vector>

#include "common/comm/communicator.h"

namespace imageddpo {

/// Sends the rows of a [V, ...] tensor, each computed by one trainer rank, to all trainer ranks.
/// Does nothing with one trainer. Thread-compatible.
class ShardExchange {
 public:
  /// @param gang           the whole gang; only the trainers below take part.
  /// @param trainer_ranks  gang ranks of the trainers, in order.
  /// @param my_index       of this rank among them.
  /// @param timeout        for each row, from when the one before it is through.
  ShardExchange(Communicator* gang, std::vector<int> trainer_ranks, int my_index,
                std::chrono::milliseconds timeout);

  int my_index() const { return my_index_; }
  int num_trainers() const { return static_cast<int>(trainer_ranks_.size()); }

  /// In place; blocks until every row of this rank has been taken and all others are here.
  /// @param rows_V  contiguous, on the CPU, same shape and dtype everywhere.
  /// @param owner_of_row  index of the trainer that filled a row; the same everywhere.
  /// @throws CommError  kTimeout: a trainer did not come. kPeerFailed, kAborted: at once.
  ///                    kTransport: a row differs in size or dtype; the gang goes on.
  void AllGatherRows(const at::Tensor& rows_V, const std::function<int(int64_t)>& owner_of_row);

 private:
  Communicator* gang_;
  std::vector<int> trainer_ranks_;
  int my_index_;
  std::chrono::milliseconds timeout_;
};

}  // namespace imageddpo
