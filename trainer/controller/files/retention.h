#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// What is removed of jobs that have ended; 0: nothing for that reason. Never touched: jobs that
/// have not ended, the newest checkpoint and those after it, the best one, settings and rows.
struct RetentionRules {
  double events_s = 0;         ///< Events older jobs lose, but the last; since the job's end.
  double pictures_s = 0;       ///< The same for samples and pictures of evaluations,
  double checkpoints_s = 0;    ///< and for earlier checkpoints.
  int64_t max_bytes = 0;       ///< Of all jobs' files: above it, those that ended first lose both.
  int64_t min_free_bytes = 0;  ///< Of the disk: the same below it.

  bool any() const {
    return events_s > 0 || pictures_s > 0 || checkpoints_s > 0 || max_bytes > 0 ||
           min_free_bytes > 0;
  }
};

/// A folder that may go, by its name below the job's folder.
struct SpareFolder {
  std::string name;
  int64_t bytes = 0;
};

struct EndedJob {
  std::string id;
  double end_s = 0;          ///< Seconds since 1970.
  int64_t spare_events = 0;  ///< Without the last.
  std::vector<SpareFolder> pictures, checkpoints;
};

/// @param jobs          The one that ended first first.
/// @param excess_bytes  What is to be freed whatever the age; <= 0: nothing.
/// @return what goes, a job each; jobs of which nothing goes are left out.
std::vector<v1::Removal> PlanRetention(const RetentionRules& rules,
                                       const std::vector<EndedJob>& jobs, double now_s,
                                       int64_t excess_bytes);

/// Reads what jobs have on disk and plans. Takes as long as the disk needs to list all files.
/// @param now_s  Seconds since 1970.
absl::StatusOr<std::vector<v1::Removal>> PlanRetention(const JobStore& store,
                                                       const RetentionRules& rules, double now_s);

/// Moves folders of a job that has ended aside (JobService::Retire).
using Retire =
    std::function<absl::Status(const std::string& job_id, const std::vector<std::string>& names)>;

/// Plans and removes. A job that cannot be touched now is left out. Waits for the disk: not for the
/// controller's thread. @return what was removed.
absl::StatusOr<std::vector<v1::Removal>> ApplyRetention(JobStore& store,
                                                        const RetentionRules& rules, double now_s,
                                                        const Retire& retire);

}  // namespace imageddpo
