#pragma once

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "common/comm/communicator.h"
#include "common/comm/nccl/gpu_stream.h"
#include "common/comm/nccl/nccl_api.h"
#include "common/comm/nccl/nccl_rounds.h"

namespace imageddpo {

/// A stand-in for NCCL and the streams of several devices, without devices: bytes move between
/// threads of this process. What hangs with NCCL hangs here too: a device runs the kernels of its
/// stream in order, and a kernel ends when the kernels of all ranks that it exchanges data with
/// have reached the head of their streams. Thread-safe; must outlive the objects that it creates.
class FakeNccl {
 public:
  explicit FakeNccl(int num_devices);
  ~FakeNccl();

  NcclApi Api(int device);
  std::unique_ptr<GpuStream> Stream(int device);

  /// The ranks of a group, one device each, over mailboxes of this process.
  std::vector<std::unique_ptr<Communicator>> MakeCommunicators(const NcclDeadlines& deadlines = {});

  /// From now on communicators say this many times that they are in progress: when they are made
  /// and when something is queued.
  void StayInProgress(int polls);
  /// From now on the state of this device's communicators is `state`.
  void SetState(int device, NcclResult state);
  /// From now on kernels of this device do not end.
  void Hang(int device);
  /// The next call on this device that queues something does not return, until a communicator of
  /// the device is aborted; with `for_ever` not even then, until Release().
  void BlockNextCall(int device, bool for_ever = false);
  void Release();

  struct Counts {
    int comms_made = 0;                 ///< Ends, over all devices.
    int comms_alive = 0;                ///< Neither aborted nor closed.
    int most_kernels = 0;               ///< Of communicators, queued at once on one device.
    int mismatches = 0;                 ///< Sends that met a receive of another size.
    bool one_thread_per_device = true;  ///< All calls but abort.
  };
  Counts counts() const;

  struct State;

 private:
  const std::shared_ptr<State> state_;
};

}  // namespace imageddpo
