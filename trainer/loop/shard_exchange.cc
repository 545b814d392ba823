#include "trainer/loop/shard_exchange.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "common/base/status.h"
#include "common/device/copies.h"
#include "common/trajectory/record/tags.h"

namespace imageddpo {

ShardExchange::ShardExchange(Communicator* gang, std::vector<int> trainer_ranks, int my_index,
                             ReduceKind reduce, std::chrono::milliseconds timeout)
    : gang_(gang),
      group_{.ranks = std::move(trainer_ranks), .tag = kGradientTag},
      my_index_(my_index),
      reduce_(reduce),
      timeout_(timeout) {}

absl::StatusOr<at::Tensor> ShardExchange::SumShards(int64_t num_shards, int64_t num_parameters,
                                                    const Owner& owner_of_shard,
                                                    const Compute& compute) {
  const bool is_alone = num_trainers() == 1;
  std::vector<at::Tensor> own_P;
  for (int64_t v = 0; v < num_shards; ++v) {
    if (owner_of_shard(v) != my_index_) continue;
    IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor shard_P, compute(v));
    if (!is_alone) shard_P = MoveTo(shard_P, gang_->transfer_device());
    if (own_P.empty() || (reduce_ == ReduceKind::kExact && !is_alone)) {
      own_P.push_back(std::move(shard_P));
    } else {
      own_P.front().add_(shard_P);
    }
  }
  if (is_alone) return own_P.front();
  if (reduce_ == ReduceKind::kExact) {
    return SumInOrder(num_shards, num_parameters, owner_of_shard, std::move(own_P));
  }
  const at::Device transfer_device = gang_->transfer_device();
  const at::Tensor sum_P =
      own_P.empty() ? at::zeros({num_parameters},
                                at::TensorOptions().dtype(at::kFloat).device(transfer_device))
                    : own_P.front();
  gang_->AllReduceSum(sum_P, group_)->Wait(timeout_);
  return sum_P;
}

at::Tensor ShardExchange::SumInOrder(int64_t num_shards, int64_t num_parameters,
                                     const Owner& owner_of_shard, std::vector<at::Tensor> own_P) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(gang_->transfer_device());
  const int64_t slice_size = (num_parameters + num_trainers() - 1) / num_trainers();
  const auto slice = [&](const at::Tensor& values_P, int index) {
    const int64_t begin = std::min(index * slice_size, num_parameters);
    return values_P.narrow(0, begin, std::min(slice_size, num_parameters - begin));
  };
  // Trainers behind the last parameter have nothing to add; the other slices may be unequal.
  const int64_t my_size =
      std::clamp(num_parameters - my_index_ * slice_size, int64_t{0}, slice_size);
  std::vector<at::Tensor> shards_S;  // Of my slice.
  std::vector<std::unique_ptr<Work>> works;
  size_t next_own = 0;
  for (int64_t v = 0; v < num_shards; ++v) {
    const int owner = owner_of_shard(v);
    if (owner != my_index_) {
      shards_S.push_back(at::empty({my_size}, options));
      if (my_size > 0) {
        works.push_back(gang_->Recv(shards_S.back(), group_.ranks[owner], kGradientTag));
      }
      continue;
    }
    const at::Tensor& shard_P = own_P.at(next_own++);
    shards_S.push_back(slice(shard_P, my_index_));
    for (int index = 0; index < num_trainers(); ++index) {
      const at::Tensor part = slice(shard_P, index);
      if (index == my_index_ || part.numel() == 0) continue;
      works.push_back(gang_->Send(part, group_.ranks[index], kGradientTag));
    }
  }
  for (auto& work : works) work->Wait(timeout_);

  const at::Tensor mine = at::zeros({slice_size}, options);  // Slices of one size are gathered.
  const at::Tensor sum_S = mine.narrow(0, 0, my_size);
  sum_S.copy_(shards_S.front());
  for (int64_t v = 1; v < num_shards; ++v) sum_S.add_(shards_S[static_cast<size_t>(v)]);
  works.clear();
  shards_S.clear();
  own_P.clear();
  const at::Tensor all = at::empty({num_trainers(), slice_size}, options);
  gang_->AllGather(all, mine, group_)->Wait(timeout_);
  return all.view({-1}).narrow(0, 0, num_parameters);
}

void ShardExchange::AllGatherRows(const at::Tensor& rows_V, const Owner& owner_of_row) {
  if (num_trainers() == 1) return;
  std::vector<std::vector<int64_t>> rows_of(static_cast<size_t>(num_trainers()));
  for (int64_t row = 0; row < rows_V.size(0); ++row) rows_of[owner_of_row(row)].push_back(row);
  size_t most = 0;
  for (const auto& rows : rows_of) most = std::max(most, rows.size());
  std::vector<int64_t> shape = rows_V.sizes().vec();
  shape[0] = static_cast<int64_t>(most);
  const at::Tensor mine = at::zeros(shape, rows_V.options());
  for (size_t i = 0; i < rows_of[my_index_].size(); ++i) {
    mine.select(0, static_cast<int64_t>(i)).copy_(rows_V.select(0, rows_of[my_index_][i]));
  }
  shape.insert(shape.begin(), num_trainers());
  const at::Tensor all = at::empty(shape, rows_V.options());
  gang_->AllGather(all, mine, group_)->Wait(timeout_);
  for (size_t index = 0; index < rows_of.size(); ++index) {
    for (size_t i = 0; i < rows_of[index].size(); ++i) {
      const at::Tensor row = all.select(0, static_cast<int64_t>(index));
      rows_V.select(0, rows_of[index][i]).copy_(row.select(0, static_cast<int64_t>(i)));
    }
  }
}

std::vector<int> ShardExchange::Differing(std::string_view text) {
  if (num_trainers() == 1) return {};
  const auto size = static_cast<int64_t>(text.size());
  const at::Tensor mine = at::empty({size}, at::kByte);
  std::copy(text.begin(), text.end(), mine.mutable_data_ptr<uint8_t>());
  const at::Tensor all = at::empty({num_trainers(), size}, at::kByte);
  gang_->AllGather(all, mine, group_)->Wait(timeout_);
  std::vector<int> differing;
  for (int index = 1; index < num_trainers(); ++index) {
    if (!at::equal(all.select(0, index), all.select(0, 0))) differing.push_back(index);
  }
  return differing;
}

}  // namespace imageddpo
