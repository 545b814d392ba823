#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// The GPU of a worker as one text, the same for workers that share it: its UUID, or else host and
/// number. Empty: it computes on the CPU.
std::string GpuOf(const Scheduler::Worker& worker);

/// What the ranks of a gang compute on.
struct GangDevices {
  bool are_shared = false;       ///< Two ranks or more have one GPU.
  std::set<std::string> models;  ///< Of their GPUs, as far as they are known.
};
GangDevices DevicesOf(const std::map<int, Scheduler::Worker>& workers,
                      const std::vector<int>& world_ranks);

}  // namespace imageddpo
