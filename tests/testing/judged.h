#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "common/config/resolved_job.h"

namespace imageddpo {

/// A job with what every job must name (model, images, a reward), where the test does not say.
inline v1::JobSpec Runnable(v1::JobSpec spec) {
  if (!spec.has_name()) spec.set_name("job");
  if (spec.model().path().empty()) spec.mutable_model()->set_path("model");
  if (spec.data().path().empty()) spec.mutable_data()->set_path("images");
  if (spec.rewards().empty()) {
    v1::RewardSpec* reward = spec.add_rewards();
    reward->set_type("jpeg");
    reward->set_measure("compressibility");
  }
  return spec;
}

/// Judges a job that the test takes to be good; a bad one ends the test program with its faults.
inline ResolvedJob Judged(v1::JobSpec spec) {
  absl::StatusOr<ResolvedJob> job = ResolvedJob::Make(Runnable(std::move(spec)));
  EXPECT_TRUE(job.ok()) << job.status();
  return std::move(job).value();
}

}  // namespace imageddpo
