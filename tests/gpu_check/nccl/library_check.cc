#include "tests/gpu_check/nccl/library_check.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <exception>
#include <functional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kTimeout{60};
constexpr std::int64_t kElements = 100'003;

class LibraryCheck {
 public:
  LibraryCheck(const NcclApi& api, GpuStream& stream, at::Device device)
      : api_(api), stream_(stream), device_(device) {}

  ~LibraryCheck() {
    if (comm_ != nullptr) {
      api_.abort(comm_);
    }
  }
  LibraryCheck(const LibraryCheck&) = delete;
  LibraryCheck& operator=(const LibraryCheck&) = delete;

  void Run() {
    stream_.BindThread();
    std::string id;
    Require(api_.get_unique_id(&id), "ncclGetUniqueId");
    Require(api_.init_rank(&comm_, 1, id, 0), "ncclCommInitRankConfig");
    WaitForComm("making a communicator");
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      CheckCalls(dtype);
    }
    Require(api_.abort(std::exchange(comm_, nullptr)), "ncclCommAbort");
  }

 private:
  void CheckCalls(at::ScalarType dtype) {
    const at::Tensor pattern =
        at::arange(kElements, at::TensorOptions().dtype(dtype).device(device_));
    const at::Tensor received = at::zeros({kElements}, pattern.options());
    const at::Tensor gathered = at::zeros({1, kElements}, pattern.options());
    const at::Tensor in_place = pattern.clone();
    const std::size_t size = pattern.nbytes();
    const auto event = stream_.MarkCaller();
    stream_.WaitFor(*event);
    Group("send and receive", [&] {
      Require(api_.send(pattern.const_data_ptr(), size, 0, comm_, stream_.handle()), "ncclSend");
      Require(api_.recv(received.mutable_data_ptr(), size, 0, comm_, stream_.handle()), "ncclRecv");
    });
    Expect(received, pattern, "what was sent");
    Group("all-gather", [&] {
      Require(api_.all_gather(pattern.const_data_ptr(), gathered.mutable_data_ptr(), size, comm_,
                              stream_.handle()),
              "ncclAllGather");
    });
    Expect(gathered.select(0, 0), pattern, "what was gathered");
    Group("broadcast", [&] {
      Require(api_.broadcast(in_place.mutable_data_ptr(), size, 0, comm_, stream_.handle()),
              "ncclBroadcast");
    });
    Expect(in_place, pattern, "what was broadcast");
    Group("all-reduce", [&] {
      Require(api_.all_reduce_sum(in_place.mutable_data_ptr(), kElements, dtype == at::kDouble,
                                  comm_, stream_.handle()),
              "ncclAllReduce");
    });
    Expect(in_place, pattern, "the sum of one rank");
  }

  void Group(const char* what, const std::function<void()>& calls) {
    Require(api_.group_start(), "ncclGroupStart");
    calls();
    Require(api_.group_end(), "ncclGroupEnd");
    WaitForComm(what);
    const auto event = stream_.Mark();
    WaitUntil(what, [&] { return event->Done(); });
    WaitForComm(what);
  }

  void WaitForComm(const char* what) {
    WaitUntil(what, [&] {
      NcclResult state = NcclResult::kSuccess;
      Require(api_.get_async_error(comm_, &state), "ncclCommGetAsyncError");
      Require(state, what);
      return state == NcclResult::kSuccess;
    });
  }

  static void WaitUntil(const char* what, const std::function<bool()>& done) {
    const auto until = std::chrono::steady_clock::now() + kTimeout;
    while (!done()) {
      if (std::chrono::steady_clock::now() > until) {
        throw std::runtime_error(absl::StrCat(what, ": not done in time"));
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  void Require(NcclResult result, const char* what) const {
    if (result != NcclResult::kSuccess && result != NcclResult::kInProgress) {
      throw std::runtime_error(absl::StrCat(what, ": result ", static_cast<int>(result), ", ",
                                            comm_ == nullptr ? "" : api_.last_error(comm_)));
    }
  }

  static void Expect(const at::Tensor& is, const at::Tensor& expected, const char* what) {
    if (!at::equal(is, expected)) {
      throw std::runtime_error(absl::StrCat(what, " is not what it was"));
    }
  }

  const NcclApi& api_;
  GpuStream& stream_;
  const at::Device device_;
  NcclComm comm_ = nullptr;
};

}  // namespace

std::vector<std::string> CheckLibraryCalls(const NcclApi& api, GpuStream& stream,
                                           at::Device device) {
  try {
    LibraryCheck(api, stream, device).Run();
  } catch (const std::exception& error) {
    return {absl::StrCat("on ", device.str(), ": ", error.what())};
  }
  return {};
}

}  // namespace imageddpo
