#include "tests/testing/fake_nccl.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/comm/nccl/nccl_communicator.h"
#include "tests/testing/fake_nccl_state.h"

namespace imageddpo {
namespace {

using Part = FakeNccl::State::Part;

class DoneEvent : public GpuEvent {
 public:
  bool Done() override { return true; }
};

class FakeEvent : public GpuEvent {
 public:
  FakeEvent(std::shared_ptr<FakeNccl::State> state, int device, std::int64_t target)
      : state_(std::move(state)), device_(device), target_(target) {}

  bool Done() override {
    absl::MutexLock lock(&state_->mutex);
    state_->Progress();
    return state_->devices[static_cast<std::size_t>(device_)].finished >= target_;
  }

 private:
  const std::shared_ptr<FakeNccl::State> state_;
  const int device_;
  const std::int64_t target_;
};

class FakeStream : public GpuStream {
 public:
  FakeStream(std::shared_ptr<FakeNccl::State> state, int device)
      : state_(std::move(state)), device_(device) {}

  void BindThread() override {}
  void* handle() const override { return state_.get(); }
  std::unique_ptr<GpuEvent> MarkCaller() override { return std::make_unique<DoneEvent>(); }
  void WaitFor(GpuEvent& /*event*/) override {}

  std::unique_ptr<GpuEvent> Mark() override {
    absl::MutexLock lock(&state_->mutex);
    return std::make_unique<FakeEvent>(state_, device_,
                                       state_->devices[static_cast<std::size_t>(device_)].queued);
  }

  void Copy(void* to, const void* from, std::size_t size_bytes) override {
    absl::MutexLock lock(&state_->mutex);
    state_->Launch(state_->Enter(device_), nullptr,
                   {{.from = static_cast<const char*>(from),
                     .into = static_cast<char*>(to),
                     .size = size_bytes}});
  }

 private:
  const std::shared_ptr<FakeNccl::State> state_;
  const int device_;
};

}  // namespace

FakeNccl::FakeNccl(int num_devices) : state_(std::make_shared<State>()) {
  absl::MutexLock lock(&state_->mutex);
  state_->devices.resize(static_cast<std::size_t>(num_devices));
}

FakeNccl::~FakeNccl() = default;

NcclApi FakeNccl::Api(int device) {
  NcclApi api;
  const auto state = state_;
  api.version = [] { return std::string("fake"); };
  api.get_unique_id = [state](std::string* id) {
    absl::MutexLock lock(&state->mutex);
    *id = absl::StrCat("clique ", state->next_id++);
    return NcclResult::kSuccess;
  };
  api.init_rank = [state, device](NcclComm* comm, int size, const std::string& id, int rank) {
    return state->Init(device, comm, size, id, rank);
  };
  api.get_async_error = [state, device](NcclComm comm, NcclResult* result) {
    return state->GetState(device, comm, result);
  };
  api.last_error = [](NcclComm) { return std::string("as told"); };
  api.abort = [state](NcclComm comm) { return state->Abort(comm); };
  api.group_start = [state, device] {
    absl::MutexLock lock(&state->mutex);
    ++state->Enter(device).group_depth;
    return NcclResult::kSuccess;
  };
  api.group_end = [state, device] { return state->EndGroup(device); };
  const auto chars = [](void* pointer) { return static_cast<char*>(pointer); };
  api.send = [state, device](const void* from, std::size_t size, int peer, NcclComm comm,
                             NcclStream) {
    return state->Add(
        device, comm,
        {.part = Part::kSend, .peer = peer, .from = static_cast<const char*>(from), .size = size});
  };
  api.recv = [=](void* into, std::size_t size, int peer, NcclComm comm, NcclStream) {
    return state->Add(device, comm,
                      {.part = Part::kRecv, .peer = peer, .into = chars(into), .size = size});
  };
  api.broadcast = [=](void* in_place, std::size_t size, int root, NcclComm comm, NcclStream) {
    return state->Add(
        device, comm,
        {.part = Part::kBroadcast, .peer = root, .into = chars(in_place), .size = size});
  };
  api.all_gather = [=](const void* from, void* into, std::size_t size, NcclComm comm, NcclStream) {
    return state->Add(device, comm,
                      {.part = Part::kAllGather,
                       .from = static_cast<const char*>(from),
                       .into = chars(into),
                       .size = size});
  };
  api.all_reduce_sum = [=](void* in_place, std::size_t count, bool is_double, NcclComm comm,
                           NcclStream) {
    return state->Add(device, comm,
                      {.part = is_double ? Part::kSumDouble : Part::kSumFloat,
                       .into = chars(in_place),
                       .size = count * (is_double ? sizeof(double) : sizeof(float))});
  };
  return api;
}

std::unique_ptr<GpuStream> FakeNccl::Stream(int device) {
  return std::make_unique<FakeStream>(state_, device);
}

std::vector<std::unique_ptr<Communicator>> FakeNccl::MakeCommunicators(
    const NcclDeadlines& deadlines) {
  int num_devices = 0;
  {
    absl::MutexLock lock(&state_->mutex);
    num_devices = static_cast<int>(state_->devices.size());
  }
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (auto& mailbox : MakeThreadMailboxes(num_devices)) {
    const int device = mailbox->rank();
    communicators.push_back(std::make_unique<NcclCommunicator>(
        std::move(mailbox), at::kCPU, Api(device), Stream(device), deadlines));
  }
  return communicators;
}

void FakeNccl::StayInProgress(int polls) {
  absl::MutexLock lock(&state_->mutex);
  state_->polls = polls;
}

void FakeNccl::SetState(int device, NcclResult state) {
  absl::MutexLock lock(&state_->mutex);
  state_->devices[static_cast<std::size_t>(device)].state = state;
}

void FakeNccl::Hang(int device) {
  absl::MutexLock lock(&state_->mutex);
  state_->devices[static_cast<std::size_t>(device)].hangs = true;
}

void FakeNccl::BlockNextCall(int device, bool for_ever) {
  absl::MutexLock lock(&state_->mutex);
  state_->devices[static_cast<std::size_t>(device)].block_next = true;
  state_->devices[static_cast<std::size_t>(device)].block_for_ever = for_ever;
}

void FakeNccl::Release() {
  absl::MutexLock lock(&state_->mutex);
  state_->released = true;
}

FakeNccl::Counts FakeNccl::counts() const {
  absl::MutexLock lock(&state_->mutex);
  Counts counts = state_->counts;
  counts.comms_alive = static_cast<int>(state_->comms.size());
  return counts;
}

}  // namespace imageddpo
