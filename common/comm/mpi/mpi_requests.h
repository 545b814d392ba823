#pragma once

#include <mpi.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "common/comm/mailbox/transfer.h"

namespace imageddpo {

/// The nonblocking sends and receives that are under way in one MPI communicator. Keeps their
/// memory alive and completes or fails their transfers. Thread-compatible; nothing blocks.
class MpiRequests {
 public:
  /// Called for each transfer that MPI has refused or that has failed.
  using OnError = std::function<void(int peer, int mpi_error)>;

  MpiRequests(MPI_Comm comm, OnError on_error) : comm_(comm), on_error_(std::move(on_error)) {}

  /// `transfer` may be null. More than 1 GiB is cut into several messages with the same tag,
  /// because MPI counts with int; both ends cut alike.
  void Send(int to, int tag, absl::Span<const char> bytes, std::shared_ptr<const void> owner,
            std::shared_ptr<Transfer> transfer);
  void Receive(int from, int tag, absl::Span<char> into, std::shared_ptr<const void> owner,
               std::shared_ptr<Transfer> transfer);

  /// Completes the transfers that MPI has finished. @return whether there were any.
  bool Finish();

  bool empty() const { return requests_.empty(); }

  /// Hands over all memory that MPI may still use.
  std::shared_ptr<void> TakeMemory();

 private:
  struct Operation {
    int peer;
    std::shared_ptr<const void> owner;
    std::shared_ptr<Transfer> transfer;
    std::size_t requests_left;
  };
  using StartChunk = std::function<int(std::size_t begin, int size, MPI_Request* request)>;

  void Start(std::size_t size_bytes, const std::shared_ptr<Operation>& operation,
             const StartChunk& start_chunk);
  void Fail(const Operation& operation, int mpi_error);

  const MPI_Comm comm_;
  const OnError on_error_;
  std::vector<MPI_Request> requests_;
  std::vector<std::shared_ptr<Operation>> operations_;  // By index, of requests_.
  std::vector<int> indices_;                            // For MPI_Testsome.
  std::vector<MPI_Status> statuses_;
};

}  // namespace imageddpo
