#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// The GPU of a worker as one text, the same for workers that share it: its UUID, or else host and
/// number. Empty: it computes on the CPU.
std::string GpuOf(const Scheduler::Worker& worker);

/// What the ranks of a gang compute on.
struct GangDevices {
  bool are_shared = false;       ///< Two ranks or more have one GPU.
  std::string shared;            ///< The first two of them and their GPU, in words.
  std::set<std::string> models;  ///< Of their GPUs, as far as they are known.
};
GangDevices DevicesOf(const std::map<int, Scheduler::Worker>& workers,
                      const std::vector<int>& world_ranks);

/// FAILED_PRECONDITION where ranks would share a GPU and the job does not allow it
/// (`device.allow_shared_gpus`), with what can be done about it.
absl::Status CheckSharing(const GangDevices& devices, bool allowed);

}  // namespace imageddpo
