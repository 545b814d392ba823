#include "trainer/controller/storekeeper.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/access/certificates.h"
#include "common/io/file.h"

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
    ExportDisk();
    // The first round comes a minute after the start, when the controller has read its jobs.
    if (rules_.any() && pauses % kPausesPerRound == 1) RemoveOld();
    stop_.Take(kPause);
  }
}

void Storekeeper::ExportDisk() {
  std::error_code error;  // Shown elsewhere: jobs wait for the disk.
  const auto space = std::filesystem::space(dependencies_.store.data_dir(), error);
  if (!error) dependencies_.metrics.SetDataDirFree(static_cast<double>(space.available));
  if (dependencies_.certificate_file.empty()) return;
  const absl::StatusOr<std::string> certificate = ReadFile(dependencies_.certificate_file);
  if (!certificate.ok()) return;
  if (const std::optional<double> expiry_s = ExpiryOf(*certificate)) {
    dependencies_.metrics.SetCertificateExpiry(*expiry_s);
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
