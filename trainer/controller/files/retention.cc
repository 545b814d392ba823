#include "trainer/controller/files/retention.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/files/job_files.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

/// The folders of pictures in a job's folder.
std::vector<SpareFolder> PicturesOf(const std::string& folder) {
  std::vector<SpareFolder> pictures;
  std::error_code error;
  if (fs::is_directory(fs::path(folder) / "samples", error)) {
    pictures.push_back({"samples", BytesBelow(folder + "/samples")});
  }
  fs::directory_iterator entry(fs::path(folder) / "eval", error);
  while (!error && entry != fs::directory_iterator()) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) {
      pictures.push_back({absl::StrCat("eval/", entry->path().filename().string()),
                          BytesBelow(entry->path().string())});
    }
    entry.increment(error);
  }
  return pictures;
}

/// The checkpoints before the newest complete one.
std::vector<SpareFolder> SpareCheckpointsOf(const JobStore& store, const std::string& id) {
  const absl::StatusOr<v1::ListCheckpointsResponse> listed = ListCheckpoints(store, id);
  if (!listed.ok()) return {};
  std::optional<int64_t> newest;
  for (const v1::CheckpointFolder& checkpoint : listed->checkpoints()) {
    if (checkpoint.complete()) newest = checkpoint.epoch();
  }
  std::vector<SpareFolder> spare;
  for (const v1::CheckpointFolder& checkpoint : listed->checkpoints()) {
    if (!newest.has_value() || checkpoint.epoch() >= *newest) break;
    const std::string name = fs::path(checkpoint.path()).filename().string();
    spare.push_back({absl::StrCat("checkpoints/", name), checkpoint.size_bytes()});
  }
  return spare;
}

/// Bytes that have to go so that the rules about space hold.
int64_t ExcessBytes(const JobStore& store, const RetentionRules& rules) {
  int64_t excess = 0;
  if (rules.max_bytes > 0) {
    excess = BytesBelow(absl::StrCat(store.data_dir(), "/jobs")) - rules.max_bytes;
  }
  std::error_code error;
  const fs::space_info space = fs::space(store.data_dir(), error);
  if (rules.min_free_bytes > 0 && !error) {
    excess = std::max(excess, rules.min_free_bytes - static_cast<int64_t>(space.available));
  }
  return excess;
}

void Take(const std::vector<SpareFolder>& folders, v1::Removal* removal) {
  for (const SpareFolder& folder : folders) {
    removal->add_folders(folder.name);
    removal->set_size_bytes(removal->size_bytes() + folder.bytes);
  }
}

}  // namespace

std::vector<v1::Removal> PlanRetention(const RetentionRules& rules,
                                       const std::vector<EndedJob>& jobs, double now_s,
                                       int64_t excess_bytes) {
  const auto is_old = [](double age_s, double limit_s) { return limit_s > 0 && age_s >= limit_s; };
  std::vector<v1::Removal> removals(jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) {
    const double age_s = now_s - jobs[i].end_s;
    removals[i].set_id(jobs[i].id);
    if (is_old(age_s, rules.events_s)) removals[i].set_num_events(jobs[i].spare_events);
    if (is_old(age_s, rules.pictures_s)) Take(jobs[i].pictures, &removals[i]);
    if (is_old(age_s, rules.checkpoints_s)) Take(jobs[i].checkpoints, &removals[i]);
    excess_bytes -= removals[i].size_bytes();
  }
  // What age has left, the oldest first: pictures before checkpoints.
  for (size_t i = 0; i < jobs.size(); ++i) {
    const double age_s = now_s - jobs[i].end_s;
    for (const auto& [folders, limit_s] : {std::pair(&jobs[i].pictures, rules.pictures_s),
                                           std::pair(&jobs[i].checkpoints, rules.checkpoints_s)}) {
      if (excess_bytes <= 0 || is_old(age_s, limit_s)) continue;
      const int64_t before = removals[i].size_bytes();
      Take(*folders, &removals[i]);
      excess_bytes -= removals[i].size_bytes() - before;
    }
  }
  std::erase_if(removals, [](const v1::Removal& removal) {
    return removal.folders().empty() && removal.num_events() == 0;
  });
  return removals;
}

absl::StatusOr<std::vector<v1::Removal>> PlanRetention(const JobStore& store,
                                                       const RetentionRules& rules, double now_s) {
  if (!rules.any()) return std::vector<v1::Removal>();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<JobStore::Ended> ended, store.EndedJobs());
  std::vector<EndedJob> jobs;
  for (const JobStore::Ended& job : ended) {
    jobs.push_back({.id = job.id,
                    .end_s = job.end_s,
                    .spare_events = job.spare_events,
                    .pictures = PicturesOf(store.JobDir(job.id)),
                    .checkpoints = SpareCheckpointsOf(store, job.id)});
  }
  return PlanRetention(rules, jobs, now_s, ExcessBytes(store, rules));
}

absl::StatusOr<std::vector<v1::Removal>> ApplyRetention(JobStore& store,
                                                        const RetentionRules& rules, double now_s,
                                                        const Retire& retire) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<v1::Removal> planned,
                             PlanRetention(store, rules, now_s));
  std::vector<v1::Removal> removed;
  for (const v1::Removal& removal : planned) {
    if (removal.num_events() > 0) {
      IMAGEDDPO_RETURN_IF_ERROR(store.RemoveEvents(removal.id()));
    }
    if (!removal.folders().empty()) {
      const std::vector<std::string> names(removal.folders().begin(), removal.folders().end());
      if (!retire(removal.id(), names).ok()) continue;  // It was resumed, or its files are read.
      for (const std::string& name : names) {
        std::error_code ignored;  // What is left goes at the next start of the service.
        fs::remove_all(store.RetiredDir(removal.id(), name), ignored);
      }
    }
    removed.push_back(removal);
  }
  return removed;
}

}  // namespace imageddpo
