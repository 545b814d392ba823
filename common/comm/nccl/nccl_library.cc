#include "common/comm/nccl/nccl_library.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

// A pair of ranks transfers a few megabytes now and then. A small share of the device is enough for
// that; the rest keeps computing.
constexpr int kMaxThreadBlocks = 8;

static_assert(ncclSuccess == static_cast<int>(NcclResult::kSuccess));
static_assert(ncclUnhandledCudaError == static_cast<int>(NcclResult::kUnhandledCudaError));
static_assert(ncclSystemError == static_cast<int>(NcclResult::kSystemError));
static_assert(ncclInternalError == static_cast<int>(NcclResult::kInternalError));
static_assert(ncclInvalidArgument == static_cast<int>(NcclResult::kInvalidArgument));
static_assert(ncclInvalidUsage == static_cast<int>(NcclResult::kInvalidUsage));
static_assert(ncclRemoteError == static_cast<int>(NcclResult::kRemoteError));
static_assert(ncclInProgress == static_cast<int>(NcclResult::kInProgress));

NcclResult Result(ncclResult_t result) { return static_cast<NcclResult>(result); }

ncclComm_t Comm(NcclComm comm) { return static_cast<ncclComm_t>(comm); }

cudaStream_t Stream(NcclStream stream) { return static_cast<cudaStream_t>(stream); }

std::string Version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) {
    return "of unknown version";
  }
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

NcclResult GetUniqueId(std::string* id) {
  ncclUniqueId unique_id;
  const ncclResult_t result = ncclGetUniqueId(&unique_id);
  id->assign(unique_id.internal, sizeof(unique_id.internal));
  return Result(result);
}

NcclResult InitRank(NcclComm* comm, int size, const std::string& id, int rank) {
  ncclUniqueId unique_id;
  if (id.size() != sizeof(unique_id.internal)) {
    return NcclResult::kInvalidArgument;
  }
  std::memcpy(unique_id.internal, id.data(), id.size());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.maxCTAs = kMaxThreadBlocks;
  ncclComm_t made = nullptr;
  const ncclResult_t result = ncclCommInitRankConfig(&made, size, unique_id, rank, &config);
  *comm = made;
  return Result(result);
}

NcclResult GetAsyncError(NcclComm comm, NcclResult* state) {
  ncclResult_t answer = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(Comm(comm), &answer);
  *state = Result(answer);
  return Result(result);
}

}  // namespace

NcclApi MakeNcclApi() {
  NcclApi api;
  api.version = Version;
  api.get_unique_id = GetUniqueId;
  api.init_rank = InitRank;
  api.get_async_error = GetAsyncError;
  api.last_error = [](NcclComm comm) { return std::string(ncclGetLastError(Comm(comm))); };
  api.abort = [](NcclComm comm) { return Result(ncclCommAbort(Comm(comm))); };
  api.group_start = [] { return Result(ncclGroupStart()); };
  api.group_end = [] { return Result(ncclGroupEnd()); };
  api.send = [](const void* from, std::size_t size, int peer, NcclComm comm, NcclStream stream) {
    return Result(ncclSend(from, size, ncclUint8, peer, Comm(comm), Stream(stream)));
  };
  api.recv = [](void* into, std::size_t size, int peer, NcclComm comm, NcclStream stream) {
    return Result(ncclRecv(into, size, ncclUint8, peer, Comm(comm), Stream(stream)));
  };
  api.broadcast = [](void* in_place, std::size_t size, int root, NcclComm comm, NcclStream stream) {
    return Result(
        ncclBroadcast(in_place, in_place, size, ncclUint8, root, Comm(comm), Stream(stream)));
  };
  api.all_gather = [](const void* from, void* into, std::size_t size, NcclComm comm,
                      NcclStream stream) {
    return Result(ncclAllGather(from, into, size, ncclUint8, Comm(comm), Stream(stream)));
  };
  api.all_reduce_sum = [](void* in_place, std::size_t count, bool is_double, NcclComm comm,
                          NcclStream stream) {
    return Result(ncclAllReduce(in_place, in_place, count, is_double ? ncclFloat64 : ncclFloat32,
                                ncclSum, Comm(comm), Stream(stream)));
  };
  return api;
}

}  // namespace imageddpo
