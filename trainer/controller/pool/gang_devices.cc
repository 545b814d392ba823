#include "trainer/controller/pool/gang_devices.h"

#include "absl/strings/str_cat.h"

namespace imageddpo {

std::string GpuOf(const Scheduler::Worker& worker) {
  if (worker.device.empty() || worker.device == "cpu") return "";
  return worker.device_id.empty() ? absl::StrCat(worker.hostname, " ", worker.device)
                                  : worker.device_id;
}

GangDevices DevicesOf(const std::map<int, Scheduler::Worker>& workers,
                      const std::vector<int>& world_ranks) {
  GangDevices devices;
  std::map<std::string, int> ranks_of_gpus;
  for (const int rank : world_ranks) {
    const auto worker = workers.find(rank);
    if (worker == workers.end()) continue;
    const std::string gpu = GpuOf(worker->second);
    if (gpu.empty()) continue;
    if (const auto [first, is_new] = ranks_of_gpus.emplace(gpu, rank); !is_new) {
      if (!devices.are_shared) {
        devices.shared = absl::StrCat(
            "ranks ", first->second, " and ", rank, " would share one GPU (", gpu, ", which rank ",
            rank, " on ", worker->second.hostname, " calls ", worker->second.device, ")");
      }
      devices.are_shared = true;
    }
    if (!worker->second.device_name.empty()) devices.models.insert(worker->second.device_name);
  }
  return devices;
}

absl::Status CheckSharing(const GangDevices& devices, bool allowed) {
  if (!devices.are_shared || allowed) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      devices.shared,
      ": each would hold a copy of the model there and wait for the other; start one worker for "
      "each GPU, ask for fewer ranks with `topology`, or set `device.allow_shared_gpus: true`"));
}

}  // namespace imageddpo
