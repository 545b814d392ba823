#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/comm/communicator.h"
#include "common/lora/denoiser.h"
#include "common/lora/lora.h"

namespace imageddpo {

/// Publication sends a LoRA version from the leader to the rollout ranks:
///
///   announcement  leader to each rank: version, modules, parameters, hash. Small.
///   values        [P], by Communicator::Broadcast. Over messages it forwards them in a tree, in
///                 which the leader sends ⌈log2(ranks + 1)⌉ times; over NCCL, as NCCL chooses. A
///                 rollout rank receives 4P bytes once.
///   receipt       each rank to the leader: the version, the number of modules it has bound,
///                 and the hash of the LoRA that it will sample with.
///
/// A LoRA that was not applied therefore stops the job. Each rank sends its receipt directly to the
/// leader, so a missing one identifies the rank. A leader that also samples sends the values to
/// itself point to point, besides the broadcast.

/// The leader's side. Thread-compatible.
class WeightPublisher {
 public:
  WeightPublisher(Communicator* gang, const std::vector<int>& rollout_ranks);

  /// Starts to send a copy of `lora` as `version` to every rollout rank and returns at once, so the
  /// LoRA may be changed immediately. No call may have a smaller version than the one before.
  /// @param hash  its Lora::Hash(), which the ranks' receipts are compared with.
  /// @throws CommError
  void Announce(const Lora& lora, int64_t version, std::string hash);

  /// The oldest version whose receipts have not been checked; -1: none.
  int64_t oldest_unchecked() const { return published_.empty() ? -1 : published_.front().version; }

  /// Collects the receipts of version oldest_unchecked(), one from every rank. Blocks until the
  /// slowest rank has bound it.
  /// @return INTERNAL naming the rank and both values if a receipt differs from what was announced.
  /// @throws CommError
  absl::Status CheckReceipts(std::chrono::milliseconds timeout);

 private:
  struct Published {
    int64_t version = 0;
    int64_t num_modules = 0;
    std::string hash;
    std::vector<std::unique_ptr<Work>> works;
  };
  Communicator* gang_;
  std::vector<int> rollout_ranks_;
  RankGroup group_;
  std::deque<Published> published_;
};

/// The side of a rollout rank. Thread-compatible.
class WeightReceiver {
 public:
  /// @param leader  its gang rank. @param rollout_ranks  all of them, with this one.
  WeightReceiver(Communicator* gang, int leader, const std::vector<int>& rollout_ranks);

  /// Starts to receive the values of the next version before Receive() is called, for a rank that
  /// goes on sampling meanwhile: each call of the communicator then forwards to other ranks what
  /// has arrived, so that nobody waits until this rank needs the version.
  /// @param num_parameters  P. @throws CommError
  void Expect(int64_t num_parameters);

  /// Receives the next version into `lora` in place, binds it to `denoiser` and sends the receipt.
  /// Blocks until the values are here and the ranks that they are forwarded to have them.
  /// @return INTERNAL if another LoRA was announced (version, modules, hash).
  /// @throws CommError
  absl::Status Receive(int64_t version, Lora* lora, Denoiser* denoiser,
                       std::chrono::milliseconds timeout);

 private:
  Communicator* gang_;
  int leader_;
  RankGroup group_;
  at::Tensor values_P_;         ///< Being received.
  std::unique_ptr<Work> work_;  ///< Of values_P_; null: nothing is expected.
};

}  // namespace imageddpo
