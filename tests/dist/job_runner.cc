#include "tests/dist/job_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace imageddpo {

JobOutcome RunOnThreads(const v1::JobSpec& job, const Topology& topology,
                        const v1::Checkpoint* resume_from, const std::vector<at::Device>& devices) {
  JobOutcome outcome;
  const absl::Status status = TryOnThreads(job, topology, resume_from, devices, &outcome);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(outcome.warnings, ::testing::IsEmpty());
  return outcome;
}

}  // namespace imageddpo
