#pragma once

#include <prometheus/registry.h>
#include <spdlog/logger.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/jobs/job_table.h"

namespace imageddpo {

/// A JobTable on a real store in a temporary directory, and what goes with it.
class StoredJobsTest : public testing::Test {
 protected:
  StoredJobsTest();

  /// As a new process: everything but the data directory is new. The table is empty until Load().
  void ReopenStore();

  /// A job that the table accepts, with every default filled in.
  static v1::JobSpec SpecOf(int colocated, int64_t epochs = 4);
  /// A new job, QUEUED.
  JobRecord& Add(const v1::JobSpec& spec);
  /// How a job comes to each state, after QUEUED.
  static const std::map<v1::JobState, std::vector<v1::JobState>>& Ways();
  /// Takes the job through legal transitions.
  void Move(JobRecord& record, const std::vector<v1::JobState>& states);

  /// As the store has it.
  v1::Job Stored(const std::string& id);
  std::vector<v1::JobEvent> Events(const std::string& id);
  std::vector<v1::JobState> States(const std::string& id);

  TempDir dir_;
  FakeClock clock_;
  std::shared_ptr<spdlog::logger> logger_;
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<ServiceMetrics> metrics_;
  std::unique_ptr<JobMetricsTable> job_metrics_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<EventHub> hub_;
  std::unique_ptr<JobTable> table_;
};

}  // namespace imageddpo
