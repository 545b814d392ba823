#pragma once

#include <mpi.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// MPI in this process: started once by main(), ended once by Finish(). Errors of MPI calls are
/// returned, never fatal.
///
/// MPI_Finalize waits for all ranks, so it may hang after a rank has died or is stopped. A launch
/// that tolerates faults therefore ends without it, each rank at its own time. In any other launch
/// mpirun ends all ranks when one ends without MPI_Finalize, so it is called there, with a
/// deadline.
class MpiRuntime {
 public:
  /// Collective over all processes of the launch; a single process needs no mpirun.
  /// @return FAILED_PRECONDITION if this MPI cannot be called from another thread than main's.
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Start(int* argc, char*** argv);

  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int world_rank() const { return world_rank_; }
  int world_size() const { return world_size_; }

  /// Whether the death of another process leaves this one running.
  bool fault_tolerant() const { return fault_tolerant_; }

  /// One sentence for the log: which MPI, how many ranks, which faults it survives.
  std::string Describe() const;

  /// The communicator of all ranks, for the messenger only. Valid until Finish().
  MPI_Comm comm() const { return comm_; }

  /// Keeps memory alive that MPI may still read or write, until MPI has ended.
  void Retain(std::shared_ptr<void> memory) { retained_.push_back(std::move(memory)); }

  /// Ends MPI. The last call before main() returns `exit_code`. If MPI_Finalize is left out or
  /// takes longer than `timeout`, the call does not return: it flushes the standard streams and
  /// ends the process with `exit_code`, without running destructors.
  void Finish(int exit_code, std::chrono::milliseconds timeout = std::chrono::seconds(5));

 private:
  MpiRuntime() = default;

  int world_rank_ = 0;
  int world_size_ = 1;
  bool fault_tolerant_ = false;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::vector<std::shared_ptr<void>> retained_;
};

}  // namespace imageddpo
