#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// A small job without a fault or a warning.
inline v1::JobSpec Good() {
  v1::JobSpec job = *ParseJobYaml(
      "name: a\nmodel: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: "
      "compressibility}]\n"
      "sample: {batch_size: 16, guidance_scale: 1}\ntrain: {batch_size: 8}",
      "job.yaml");
  return job;
}

/// That job with settings of the form SETTING=VALUE.
inline v1::JobSpec With(const std::vector<std::string>& settings) {
  v1::JobSpec job = Good();
  for (const std::string& setting : settings) {
    const absl::Status status = ApplyJobSetting(setting, &job);
    EXPECT_TRUE(status.ok()) << status;
  }
  return job;
}

inline absl::Status Judge(const std::vector<std::string>& settings) {
  return ResolvedJob::Make(With(settings)).status();
}

inline std::vector<std::string> Warnings(const std::vector<std::string>& settings) {
  return ResolvedJob::Make(With(settings))->Warnings();
}

inline std::string Refusal(const std::vector<std::string>& settings) {
  const absl::Status status = Judge(settings);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << settings.front();
  return std::string(status.message());
}

}  // namespace imageddpo
