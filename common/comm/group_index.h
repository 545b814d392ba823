#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/comm/communicator.h"

namespace imageddpo {

/// Checks of a collective's arguments that all transports share, with the same messages.

/// The index of `rank` in the group. @throws std::invalid_argument  the group is not distinct
/// ranks of the gang in ascending order, or `rank` is not among them.
inline int IndexInGroup(const RankGroup& group, int rank, int world_size, const char* what) {
  const std::vector<int>& ranks = group.ranks;
  const auto found = std::lower_bound(ranks.begin(), ranks.end(), rank);
  const bool ascends =
      std::adjacent_find(ranks.begin(), ranks.end(), std::greater_equal<>()) == ranks.end();
  if (!ascends || found == ranks.end() || *found != rank || ranks.front() < 0 ||
      ranks.back() >= world_size) {
    throw std::invalid_argument(absl::StrCat(what, ": the group [", absl::StrJoin(ranks, ","),
                                             "] must be ascending ranks below ", world_size,
                                             " with rank ", rank, " among them"));
  }
  return static_cast<int>(found - ranks.begin());
}

/// The index of the caller's rank.
inline int IndexInGroup(const RankGroup& group, const Communicator& caller, const char* what) {
  return IndexInGroup(group, caller.rank(), caller.world_size(), what);
}

/// @throws std::invalid_argument  the tensors of an all-gather do not fit each other.
inline void CheckGathered(const at::Tensor& output, const at::Tensor& input,
                          const RankGroup& group) {
  std::vector<int64_t> shape = input.sizes().vec();
  shape.insert(shape.begin(), group.size());
  if (output.sizes() != at::IntArrayRef(shape) || output.scalar_type() != input.scalar_type()) {
    throw std::invalid_argument(
        "AllGather: the output must be [group.size(), ...input.shape] of the input's dtype");
  }
}

}  // namespace imageddpo
