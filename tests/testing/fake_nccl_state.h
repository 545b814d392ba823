#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/testing/fake_nccl.h"

namespace imageddpo {

/// Devices with their queues of kernels, and what moves bytes between them.
struct FakeNccl::State {
  enum class Part { kSend, kRecv, kBroadcast, kAllGather, kSumFloat, kSumDouble };

  struct Action {
    Part part = Part::kSend;
    int peer = 0;  // Or the root.
    const char* from = nullptr;
    char* into = nullptr;
    std::size_t size = 0;  // Bytes.
    bool done = false;
  };

  struct Clique;

  struct Comm {
    std::shared_ptr<Clique> clique;
    int rank = 0;
    int device = 0;
    int polls_left = 0;
    bool launch = false;  // What waits in `waiting` starts when polls_left is 0.
    std::vector<Action> waiting;
  };

  struct Clique {
    std::map<int, Comm*> members;  // By rank; those that have joined and not left.
    int size = 0;
    int joined = 0;
  };

  struct Kernel {
    Comm* comm = nullptr;  // None: a copy within the device.
    std::vector<Action> actions;
  };

  struct Device {
    std::deque<Kernel> kernels;
    std::int64_t queued = 0;
    std::int64_t finished = 0;
    int group_depth = 0;
    Comm* group_comm = nullptr;
    std::vector<Action> group;
    bool hangs = false;
    bool block_next = false;
    bool block_for_ever = false;
    bool blocked = false;
    NcclResult state = NcclResult::kSuccess;
    std::set<std::thread::id> threads;
  };

  absl::Mutex mutex;
  std::vector<Device> devices ABSL_GUARDED_BY(mutex);
  std::map<std::string, std::shared_ptr<Clique>> cliques ABSL_GUARDED_BY(mutex);
  std::map<NcclComm, std::unique_ptr<Comm>> comms ABSL_GUARDED_BY(mutex);
  int next_id ABSL_GUARDED_BY(mutex) = 0;
  int polls ABSL_GUARDED_BY(mutex) = 0;
  bool released ABSL_GUARDED_BY(mutex) = false;
  Counts counts ABSL_GUARDED_BY(mutex);

  Device& Enter(int device) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Device& entered = devices[static_cast<std::size_t>(device)];
    entered.threads.insert(std::this_thread::get_id());
    counts.one_thread_per_device &= entered.threads.size() == 1;
    if (entered.block_next) {
      entered.block_next = false;
      entered.blocked = true;
      const auto free = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex) {
        return released || (!entered.blocked && !entered.block_for_ever);
      };
      mutex.Await(absl::Condition(&free));
      entered.blocked = false;
    }
    return entered;
  }

  Kernel* HeadOf(const Comm& comm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Device& device = devices[static_cast<std::size_t>(comm.device)];
    if (device.hangs || device.kernels.empty() || device.kernels.front().comm != &comm) {
      return nullptr;
    }
    return &device.kernels.front();
  }

  bool TrySend(const Comm& comm, Action& send) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto peer = comm.clique->members.find(send.peer);
    Kernel* const other = peer == comm.clique->members.end() ? nullptr : HeadOf(*peer->second);
    if (other == nullptr) {
      return false;
    }
    for (Action& action : other->actions) {
      if (action.part == Part::kRecv && action.peer == comm.rank && !action.done) {
        counts.mismatches += action.size != send.size;
        std::memcpy(action.into, send.from, std::min(action.size, send.size));
        action.done = send.done = true;
        return true;
      }
    }
    return false;
  }

  bool TryCollective(const Comm& comm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::vector<Action*> actions;
    for (const auto& [rank, member] : comm.clique->members) {
      if (Kernel* const head = HeadOf(*member); head != nullptr) {
        actions.push_back(&head->actions[0]);
      }
    }
    if (static_cast<int>(actions.size()) < comm.clique->size) {
      return false;
    }
    RunCollective(actions);
    return true;
  }

  /// Does all that can be done now.
  void Progress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    for (bool moved = true; moved;) {
      moved = false;
      for (Device& device : devices) {
        if (device.hangs || device.kernels.empty()) {
          continue;
        }
        Kernel& head = device.kernels.front();
        for (Action& action : head.actions) {
          if (action.done) {
            continue;
          }
          if (head.comm == nullptr) {
            std::memcpy(action.into, action.from, action.size);
            action.done = moved = true;
          } else if (action.part == Part::kSend) {
            moved |= TrySend(*head.comm, action);
          } else if (action.part != Part::kRecv) {
            moved |= TryCollective(*head.comm);
          }
        }
        if (std::all_of(head.actions.begin(), head.actions.end(),
                        [](const Action& action) { return action.done; })) {
          device.kernels.pop_front();
          ++device.finished;
          moved = true;
        }
      }
    }
  }

  void Launch(Device& device, Comm* comm, std::vector<Action> actions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    device.kernels.push_back({comm, std::move(actions)});
    ++device.queued;
    const auto of_comms =
        std::count_if(device.kernels.begin(), device.kernels.end(),
                      [](const Kernel& kernel) { return kernel.comm != nullptr; });
    counts.most_kernels = std::max(counts.most_kernels, static_cast<int>(of_comms));
  }

  NcclResult Add(int index, NcclComm comm, Action action) {
    absl::MutexLock lock(&mutex);
    Device& device = Enter(index);
    const auto found = comms.find(comm);
    if (found == comms.end() || device.group_depth != 1 ||
        (device.group_comm != nullptr && device.group_comm != found->second.get())) {
      return NcclResult::kInvalidUsage;
    }
    device.group_comm = found->second.get();
    device.group.push_back(action);
    return NcclResult::kSuccess;
  }

  NcclResult EndGroup(int index) {
    absl::MutexLock lock(&mutex);
    Device& device = Enter(index);
    --device.group_depth;
    Comm* const comm = std::exchange(device.group_comm, nullptr);
    if (comm == nullptr) {
      return NcclResult::kSuccess;
    }
    if (polls == 0) {
      Launch(device, comm, std::exchange(device.group, {}));
      return NcclResult::kSuccess;
    }
    comm->polls_left = polls;
    comm->launch = true;
    comm->waiting = std::exchange(device.group, {});
    return NcclResult::kInProgress;
  }

  NcclResult Init(int index, NcclComm* handle, int size, const std::string& id, int rank) {
    absl::MutexLock lock(&mutex);
    Enter(index);
    auto& clique = cliques[id];
    if (clique == nullptr) {
      clique = std::make_shared<Clique>();
      clique->size = size;
    }
    if (clique->size != size || clique->members.contains(rank) || id.empty()) {
      return NcclResult::kInvalidArgument;
    }
    auto comm = std::make_unique<Comm>();
    comm->clique = clique;
    comm->rank = rank;
    comm->device = index;
    comm->polls_left = polls;
    clique->members[rank] = comm.get();
    ++clique->joined;
    ++counts.comms_made;
    *handle = comm.get();
    comms[comm.get()] = std::move(comm);
    return NcclResult::kInProgress;
  }

  NcclResult GetState(int index, NcclComm handle, NcclResult* state) {
    absl::MutexLock lock(&mutex);
    Device& device = Enter(index);
    const auto found = comms.find(handle);
    if (found == comms.end()) {
      return NcclResult::kInvalidArgument;
    }
    Comm& comm = *found->second;
    *state = device.state;
    if (device.state != NcclResult::kSuccess) {
      return NcclResult::kSuccess;
    }
    if (comm.clique->joined < comm.clique->size || comm.polls_left > 0) {
      comm.polls_left = std::max(0, comm.polls_left - 1);
      *state = NcclResult::kInProgress;
    } else if (std::exchange(comm.launch, false)) {
      Launch(device, &comm, std::exchange(comm.waiting, {}));
    }
    return NcclResult::kSuccess;
  }

  NcclResult Abort(NcclComm handle) {
    absl::MutexLock lock(&mutex);
    const auto found = comms.find(handle);
    if (found == comms.end()) {
      return NcclResult::kInvalidArgument;
    }
    Comm* const comm = found->second.get();
    Device& device = devices[static_cast<std::size_t>(comm->device)];
    const auto is_of_comm = [comm](const Kernel& kernel) { return kernel.comm == comm; };
    device.finished += std::erase_if(device.kernels, is_of_comm);
    device.blocked = false;
    comm->clique->members.erase(comm->rank);
    comms.erase(found);
    Progress();
    return NcclResult::kSuccess;
  }

 private:
  template <typename Value>
  static void AddInto(std::vector<Action*>& actions) {
    const std::size_t count = actions[0]->size / sizeof(Value);
    std::vector<Value> sum(count);
    std::memcpy(sum.data(), actions[0]->into, actions[0]->size);
    for (std::size_t rank = 1; rank < actions.size(); ++rank) {
      const Value* values = reinterpret_cast<const Value*>(actions[rank]->into);
      for (std::size_t i = 0; i < count; ++i) {
        sum[i] += values[i];
      }
    }
    for (Action* action : actions) {
      std::memcpy(action->into, sum.data(), action->size);
    }
  }

  static void RunCollective(std::vector<Action*>& actions) {
    switch (actions[0]->part) {
      case Part::kBroadcast: {
        const Action& root = *actions[static_cast<std::size_t>(actions[0]->peer)];
        for (Action* action : actions) {
          std::memmove(action->into, root.into, root.size);
        }
        break;
      }
      case Part::kAllGather:
        for (Action* action : actions) {
          for (std::size_t rank = 0; rank < actions.size(); ++rank) {
            std::memmove(action->into + rank * action->size, actions[rank]->from, action->size);
          }
        }
        break;
      case Part::kSumFloat:
        AddInto<float>(actions);
        break;
      case Part::kSumDouble:
        AddInto<double>(actions);
        break;
      case Part::kSend:
      case Part::kRecv:
        break;
    }
    for (Action* action : actions) {
      action->done = true;
    }
  }
};

}  // namespace imageddpo
