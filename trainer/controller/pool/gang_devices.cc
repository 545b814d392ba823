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
  std::set<std::string> gpus;
  for (const int rank : world_ranks) {
    const auto worker = workers.find(rank);
    if (worker == workers.end()) continue;
    const std::string gpu = GpuOf(worker->second);
    if (gpu.empty()) continue;
    devices.are_shared = !gpus.insert(gpu).second || devices.are_shared;
    if (!worker->second.device_name.empty()) devices.models.insert(worker->second.device_name);
  }
  return devices;
}

}  // namespace imageddpo
