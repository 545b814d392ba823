#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/controller/jobs/stored_jobs_fixture.h"
#include "trainer/controller/jobs/supervisor.h"

namespace imageddpo {

/// A Supervisor on a real store in a temporary directory, without threads: tests call it in place
/// of the workers and look at what it sends to them.
class SupervisorTest : public StoredJobsTest {
 protected:
  static constexpr int kNumWorkers = 3;

  SupervisorTest();

  /// As a new process: everything but the data directory is new.
  void Restart(FileSystem* file_system = nullptr);
  void Hello(int rank);

  v1::Job Submit(const v1::JobSpec& spec, const std::string& request_id = "");

  void Progress(int rank, const std::string& id, const std::string& stage);
  void Epoch(int rank, const std::string& id, int64_t epoch);
  void Checkpoint(int rank, const std::string& id, int64_t epoch, bool spare = false);
  void Ended(int rank, const std::string& id, const absl::Status& status = absl::OkStatus());

  /// What was sent to the rank since the last call.
  std::vector<v1::ControllerMessage> TakeSent(int rank);
  /// Ranks that were sent a StartJob of this job since the last call of TakeSent for them.
  std::vector<int> StartedRanks(const std::string& id);
  std::vector<int> StoppedRanks(const std::string& id);

  double drain_seconds_ = 0;        ///< From the next Restart() on.
  Scheduler::Options queue_;        ///< The same.
  JobService::QueueLimits limits_;  ///< The same.
  PosixFileSystem disk_;
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  std::map<std::string, std::string> tags_;  ///< Of each job's newest gang; what Ended() says.
  std::vector<std::string> asked_;  ///< Jobs of which it was asked whether their rewards are back.
  std::unique_ptr<Supervisor> supervisor_;

 private:
  std::vector<int> RanksSent(const std::string& id, bool start);
};

}  // namespace imageddpo
