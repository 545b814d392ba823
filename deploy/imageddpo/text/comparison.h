#pragma once

#include <map>
#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

struct ComparedJob {
  v1::Job job;
  std::vector<v1::JobEvent> events;  ///< Its stored ones.
};

/// A number over the seeds of a group. Without a value: none of its jobs has it.
struct OverSeeds {
  int num_values = 0;
  double mean = 0;
  double standard_error = 0;  ///< Of the mean, from the values' spread; with one value its own.
};

/// Jobs that have the same settings but for seed and name.
struct ComparedGroup {
  std::vector<std::string> job_ids;
  std::map<std::string, std::string> settings;  ///< In which the groups differ; "" where not given.
  int64_t min_epochs = 0, max_epochs = 0;       ///< That its jobs have trained.
  OverSeeds final_reward;                       ///< Mean of the last up to 10 epochs.
  OverSeeds best_reward;                        ///< Of the best epoch.
  std::map<std::string, OverSeeds> evaluation;  ///< Of the newest evaluation: reward and its parts.
};

/// Groups in the order in which their first jobs come.
std::vector<ComparedGroup> CompareJobs(const std::vector<ComparedJob>& jobs);

/// A line per group, in columns for a terminal or as a Markdown table.
std::string ComparisonTable(const std::vector<ComparedGroup>& groups);
std::string ComparisonMarkdown(const std::vector<ComparedGroup>& groups);
/// {"groups": [...]}.
std::string ComparisonJson(const std::vector<ComparedGroup>& groups);
std::string ComparisonYaml(const std::vector<ComparedGroup>& groups);

}  // namespace imageddpo
