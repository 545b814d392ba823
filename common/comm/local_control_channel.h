#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/comm/control_channel.h"

namespace imageddpo {

/// A control plane within one process: the service with a single process, and tests.
class LocalControlPlane {
 public:
  /// @param worker_ranks  world ranks of the workers; {0} for the service with a single process.
  explicit LocalControlPlane(std::vector<int> worker_ranks);
  ~LocalControlPlane();

  /// The ends; each refers to this object.
  ControllerChannel& controller();
  WorkerChannel& worker(int world_rank);

  /// For tests: what a death would do.
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
