#pragma once

#include <mpi.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// MPI's life in this process: started once by main(), ended once by Finish(). Errors of MPI calls
/// are returned, never fatal.
///
/// How it ends. MPI_Finalize waits for all ranks, so it may hang once one has died, is stopped or
/// ends later. A launch that tolerates faults therefore does without it: each rank ends when it
/// pleases. In any other launch mpirun ends all ranks when one ends without MPI_Finalize, so that
/// is called, with a deadline.
class MpiRuntime {
 public:
  /// Collective over all processes of the launch; one process alone needs no mpirun.
  /// Errors: FAILED_PRECONDITION when MPI is too old to be called from a thread of ours.
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Start(int* argc, char*** argv);

  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int world_rank() const { return world_rank_; }
  int world_size() const { return world_size_; }

  /// Whether the death of another process leaves this one running.
  bool fault_tolerant() const { return fault_tolerant_; }

  /// One sentence for the log: which MPI, how many ranks, what it cannot survive.
  std::string Describe() const;

  /// Every rank, for the messenger alone. Valid until Finish().
  MPI_Comm comm() const { return comm_; }

  /// Keeps memory that MPI may still write to or read from until MPI has ended.
  void Retain(std::shared_ptr<void> memory) { retained_.push_back(std::move(memory)); }

  /// Ends MPI; the last call before main() returns `exit_code`. Where MPI_Finalize is left out or
  /// takes longer than `timeout`, it does not return: the process ends with `exit_code`, without
  /// destructors. Standard streams are flushed.
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
