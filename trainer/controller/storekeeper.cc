#include "trainer/controller/storekeeper.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kPause = absl::Minutes(1);
constexpr int kPausesPerRound = 10;  // Between two looks at the files of all jobs.

}  // namespace

Storekeeper::Storekeeper(const RetentionRules& rules, Dependencies dependencies)
    : rules_(rules), dependencies_(std::move(dependencies)), thread_([this] { Run(); }) {}

Storekeeper::~Storekeeper() {
  stop_.Close();
  thread_.join();
}

void Storekeeper::Run() {
  for (int pauses = 0; !stop_.closed(); ++pauses) {
    std::error_code error;
    const auto space = std::filesystem::space(dependencies_.store.data_dir(), error);
    if (!error) dependencies_.metrics.SetFreeBytes(static_cast<double>(space.available));
    // The first round comes a minute after the start, when the controller has read its jobs.
    if (rules_.any() && pauses % kPausesPerRound == 1) RemoveOld();
    stop_.Take(kPause);
  }
}

void Storekeeper::RemoveOld() {
  const absl::StatusOr<std::vector<v1::Removal>> removed = ApplyRetention(
      dependencies_.store, rules_, dependencies_.clock.UnixSeconds(), dependencies_.retire);
  if (!removed.ok()) {
    dependencies_.logger->error("retention: {}", std::string(removed.status().message()));
    return;
  }
  int64_t bytes = 0, events = 0;
  for (const v1::Removal& removal : *removed) {
    bytes += removal.size_bytes();
    events += removal.num_events();
  }
  dependencies_.metrics.Removed(bytes);
  if (removed->empty()) return;
  dependencies_.logger->info("retention: removed {} bytes and {} events of {} ended jobs", bytes,
                             events, removed->size());
}

}  // namespace imageddpo
