#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace imageddpo {

/// Results of NCCL's calls, with NCCL's numbers.
enum class NcclResult {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,  ///< A process of the communicator has ended, or the network failed.
  kInProgress = 7,   ///< A non-blocking communicator is still working: poll its state.
};

/// A communicator of NCCL, opaque.
using NcclComm = void*;
/// A CUDA stream, opaque: what GpuStream::handle() gives.
using NcclStream = void*;

/// The NCCL calls of this project, as a table, so that everything above it runs and is tested
/// without a GPU. MakeNcclApi() (nccl_library.h) returns the real one; FakeNccl
/// (tests/testing/fake_nccl.h) copies bytes between threads. As in NCCL, groups belong to the
/// calling thread, and only one thread at a time may call functions of one communicator, except
/// `abort`.
struct NcclApi {
  std::function<std::string()> version;  ///< For error texts: "2.28.9".

  /// A new id for a communicator, to be given to all its ranks.
  std::function<NcclResult(std::string* id)> get_unique_id;

  /// Starts to make this rank's end of a communicator of `size` ranks. Non-blocking
  /// (ncclConfig_t::blocking = 0): its state is kInProgress until all ranks have called.
  std::function<NcclResult(NcclComm* comm, int size, const std::string& id, int rank)> init_rank;

  /// The state of a communicator: kInProgress, kSuccess, or the first error.
  std::function<NcclResult(NcclComm comm, NcclResult* state)> get_async_error;
  /// NCCL's description of the last error.
  std::function<std::string(NcclComm comm)> last_error;

  /// Ends what is under way on this rank and frees the communicator. Other ranks are not told.
  std::function<NcclResult(NcclComm comm)> abort;

  std::function<NcclResult()> group_start;
  std::function<NcclResult()> group_end;

  std::function<NcclResult(const void* from, std::size_t size_bytes, int peer, NcclComm comm,
                           NcclStream stream)>
      send;
  std::function<NcclResult(void* into, std::size_t size_bytes, int peer, NcclComm comm,
                           NcclStream stream)>
      recv;
  std::function<NcclResult(void* in_place, std::size_t size_bytes, int root, NcclComm comm,
                           NcclStream stream)>
      broadcast;
  /// `into` has room for `size_bytes` of every rank.
  std::function<NcclResult(const void* from, void* into, std::size_t size_bytes, NcclComm comm,
                           NcclStream stream)>
      all_gather;
  /// @param is_double  float64 instead of float32.
  std::function<NcclResult(void* in_place, std::size_t count, bool is_double, NcclComm comm,
                           NcclStream stream)>
      all_reduce_sum;
};

}  // namespace imageddpo
