#pragma once

#include <numeric>

#include "common/comm/communicator.h"

namespace imageddpo {

/// The group of all ranks of a gang.
inline RankGroup AllRanks(const Communicator& gang) {
  RankGroup group;
  group.ranks.resize(static_cast<std::size_t>(gang.world_size()));
  std::iota(group.ranks.begin(), group.ranks.end(), 0);
  return group;
}

}  // namespace imageddpo
