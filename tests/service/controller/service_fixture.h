#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/config/cluster_config.h"
#include "common/io/file_system.h"
#include "gtest/gtest.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "tests/testing/scripted_workers.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/controller_service.h"

namespace imageddpo {

/// The real service (gRPC server, controller, SQLite on a temporary directory) over a control plane
/// in this process with scripted workers, and a real client. Start() and Stop() may be repeated:
/// the data directory stays.
class ServiceTest : public testing::Test {
 protected:
  explicit ServiceTest(std::vector<int> worker_ranks = {1, 2});
  ~ServiceTest() override;

  void Start();
  /// As SIGTERM does. @return why the controller ended.
  Controller::ExitReason Stop();
  /// The process is gone at once: nothing is drained or stored.
  void Crash();
  /// Waits until the controller ends by itself.
  Controller::ExitReason WaitForExit();

  v1::TrainerService::Stub& stub() { return *stub_; }
  /// A job of `epochs` epochs that the service accepts, on a rollout and a trainer rank; its files
  /// are in the temporary directory.
  v1::JobSpec JobOf(int64_t epochs) const;
  grpc::Status Submit(const v1::JobSpec& spec, v1::Job* job, const std::string& request_id = "");
  v1::Job MustSubmit(const v1::JobSpec& spec);
  v1::Job Get(const std::string& id);
  /// Polls until the job is in `state`; fails the test after 20 s.
  v1::Job WaitFor(const std::string& id, v1::JobState state);
  /// Polls until the reason of its state contains a text.
  void WaitForReason(const std::string& id, const std::string& text);
  v1::Job WaitForEpoch(const std::string& id, int64_t epoch);
  /// All events up to the end of the call.
  std::vector<v1::JobEvent> Watch(const std::string& id, int64_t from_event,
                                  grpc::Status* status = nullptr);
  std::string ReadJobFile(const std::string& id, const std::string& name) const;
  /// What metrics.jsonl must hold after `epochs` epochs of a job with this seed.
  static std::string ExpectedMetrics(uint64_t seed, int64_t epochs);
  /// [first, second, ...] of the stored events' numbers without progress.
  static std::vector<int64_t> Numbers(const std::vector<v1::JobEvent>& events);
  static std::vector<v1::JobState> States(const std::vector<v1::JobEvent>& events);

  const std::vector<int> worker_ranks_;
  TempDir dir_;
  ClusterConfig cluster_;
  ScriptedWorkers::Script script_;
  std::atomic<bool> rewards_are_there_ = false;  ///< What the service finds out when it asks.
  SystemClock clock_;
  PosixFileSystem file_system_;
  std::unique_ptr<LocalControlPlane> plane_;
  std::unique_ptr<ScriptedWorkers> workers_;
  std::unique_ptr<ControllerService> service_;
  std::unique_ptr<v1::TrainerService::Stub> stub_;

 private:
  void Tear();

  std::atomic<bool> stop_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
  std::optional<Controller::ExitReason> exit_reason_;
};

}  // namespace imageddpo
