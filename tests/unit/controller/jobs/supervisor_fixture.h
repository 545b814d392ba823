#pragma once

#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/jobs/supervisor.h"

namespace imageddpo {

/// A Supervisor on a real store in a temporary directory, without threads: tests call it in place
/// of the workers and look at what it sends to them.
class SupervisorTest : public testing::Test {
 protected:
  static constexpr int kNumWorkers = 3;

  SupervisorTest();

  /// As a new process: everything but the data directory is new.
  void Restart(FileSystem* file_system = nullptr);
  void Hello(int rank);

  static v1::JobSpec SpecOf(int colocated, int64_t epochs = 4);
  v1::Job Submit(const v1::JobSpec& spec, const std::string& request_id = "");
  /// As the store has it.
  v1::Job Stored(const std::string& id);
  std::vector<v1::JobEvent> Events(const std::string& id);
  std::vector<v1::JobState> States(const std::string& id);

  void Progress(int rank, const std::string& id, const std::string& stage);
  void Epoch(int rank, const std::string& id, int64_t epoch);
  void Checkpoint(int rank, const std::string& id, int64_t epoch);
  void Ended(int rank, const std::string& id, const absl::Status& status = absl::OkStatus());

  /// What was sent to the rank since the last call.
  std::vector<v1::ControllerMessage> TakeSent(int rank);
  /// Ranks that were sent a StartJob of this job since the last call of TakeSent for them.
  std::vector<int> StartedRanks(const std::string& id);
  std::vector<int> StoppedRanks(const std::string& id);

  TempDir dir_;
  FakeClock clock_;
  PosixFileSystem disk_;
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  std::map<std::string, std::string> tags_;  ///< Of each job's newest gang; what Ended() says.
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<ServiceMetrics> metrics_;
  std::unique_ptr<JobMetricsTable> job_metrics_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<EventHub> hub_;
  std::unique_ptr<JobTable> table_;
  std::unique_ptr<Supervisor> supervisor_;

 private:
  std::vector<int> RanksSent(const std::string& id, bool start);
};

}  // namespace imageddpo
