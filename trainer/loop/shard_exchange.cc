#include "trainer/loop/shard_exchange.h"

#include <memory>
#include <utility>

#include "common/trajectory/record/tags.h"

namespace imageddpo {

ShardExchange::ShardExchange(Communicator* gang, std::vector<int> trainer_ranks, int my_index,
                             std::chrono::milliseconds timeout)
    : gang_(gang),
      trainer_ranks_(std::move(trainer_ranks)),
      my_index_(my_index),
      timeout_(timeout) {}

void ShardExchange::AllGatherRows(const at::Tensor& rows_V,
                                  const std::function<int(int64_t)>& owner_of_row) {
  if (num_trainers() == 1) return;
  std::vector<std::unique_ptr<Work>> works;
  for (int64_t row = 0; row < rows_V.size(0); ++row) {
    const int owner = owner_of_row(row);
    const at::Tensor values = rows_V.select(0, row);
    if (owner != my_index_) {
      works.push_back(gang_->Recv(values, trainer_ranks_[owner], kGradientTag));
      continue;
    }
    for (int index = 0; index < num_trainers(); ++index) {
      if (index == my_index_) continue;
      works.push_back(gang_->Send(values, trainer_ranks_[index], kGradientTag));
    }
  }
  for (auto& work : works) work->Wait(timeout_);
}

}  // namespace imageddpo
