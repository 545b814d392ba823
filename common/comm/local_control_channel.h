#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/comm/control_channel.h"

namespace imageddpo {

/// The control channel within one process: for a service of a single process, and for tests.
/// Thread-safe.
class LocalControlPlane {
 public:
  /// @param worker_ranks  world ranks of the workers; {0} for the service with a single process.
  explicit LocalControlPlane(std::vector<int> worker_ranks);
  ~LocalControlPlane();

  /// The two ends. They refer to this object.
  ControllerChannel& controller();
  WorkerChannel& worker(int world_rank);

  /// For tests: simulates the death of a worker, or of rank 0.
  void FailWorker(int world_rank, const std::string& reason);
  void FailController();

 private:
  class State;
  class Controller;
  class Worker;
  std::shared_ptr<State> state_;
  std::unique_ptr<Controller> controller_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace imageddpo
