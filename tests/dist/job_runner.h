#pragma once

#include <vector>

#include "tests/testing/jobs/thread_job.h"

namespace imageddpo {

/// As TryOnThreads(): a rank that fails or warns fails the test.
JobOutcome RunOnThreads(const v1::JobSpec& job, const Topology& topology,
                        const v1::Checkpoint* resume_from = nullptr,
                        const std::vector<at::Device>& devices = {at::kCPU});

}  // namespace imageddpo
