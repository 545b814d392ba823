#include "deploy/imageddpo/text/job_files_text.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  constexpr std::array kUnits = {"KB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  if (value < 9.95) return absl::StrFormat("%.1f %s", value, kUnits[unit]);
  return absl::StrFormat("%.0f %s", value, kUnits[unit]);
}

std::string CheckpointTable(const v1::ListCheckpointsResponse& found) {
  if (found.checkpoints().empty()) {
    return "No checkpoints yet; a job gets its first one after epoch 1.\n";
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::CheckpointFolder& checkpoint : found.checkpoints()) {
    rows.push_back({absl::StrCat(checkpoint.epoch()), FormatBytes(checkpoint.size_bytes()),
                    FormatTime(checkpoint.write_time()), checkpoint.complete() ? "" : "damaged",
                    Printable(checkpoint.path())});
  }
  return FormatTable({"EPOCH#", "SIZE#", "WRITTEN (UTC)", "STATE", "PATH"}, rows);
}

std::string ArtifactTable(const std::vector<v1::Artifact>& artifacts) {
  if (artifacts.empty()) return "No files yet.\n";
  std::vector<std::vector<std::string>> rows;
  int64_t total = 0;
  for (const v1::Artifact& artifact : artifacts) {
    total += artifact.size_bytes();
    rows.push_back({FormatBytes(artifact.size_bytes()), FormatTime(artifact.write_time()),
                    Printable(artifact.name())});
  }
  return absl::StrCat(FormatTable({"SIZE#", "WRITTEN (UTC)", "NAME"}, rows), artifacts.size(),
                      artifacts.size() == 1 ? " file, " : " files, ", FormatBytes(total), "\n");
}

std::string RemovalTable(const v1::PlanRetentionResponse& plan) {
  if (plan.removals().empty()) return "Nothing would be removed.\n";
  std::vector<std::vector<std::string>> rows;
  int64_t total = 0;
  for (const v1::Removal& removal : plan.removals()) {
    total += removal.size_bytes();
    rows.push_back({removal.id(), FormatBytes(removal.size_bytes()),
                    absl::StrCat(removal.num_events()),
                    Printable(absl::StrJoin(removal.folders(), " "))});
  }
  return absl::StrCat(FormatTable({"ID", "SIZE#", "EVENTS#", "FOLDERS"}, rows), rows.size(),
                      rows.size() == 1 ? " job, " : " jobs, ", FormatBytes(total), "\n");
}

}  // namespace imageddpo
