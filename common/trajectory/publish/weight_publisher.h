#pragma once

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

/// The leader's side of publication: sends LoRA versions to the rollout ranks and checks their
/// receipts. Every rollout rank answers with the version, the number of modules it has bound, and
/// the hash of the LoRA that it will sample with; a LoRA that was not applied therefore stops the
/// job. Thread-compatible.
class WeightPublisher {
 public:
  WeightPublisher(Communicator* gang, std::vector<int> rollout_ranks);

  /// Starts to send a copy of `lora` as `version` to every rollout rank and returns at once, so the
  /// LoRA may be changed immediately. Versions must ascend.
  /// @throws CommError
  void Announce(const Lora& lora, int64_t version);

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
  std::deque<Published> published_;
};

/// The rollout rank's side: receives the version into `lora` in place, binds it to `denoiser` and
/// sends the receipt. Blocks.
/// @return INTERNAL if another LoRA was announced (version, modules, hash).
/// @throws CommError
absl::Status ReceiveWeights(Communicator* gang, int leader, int64_t version, Lora* lora,
                            Denoiser* denoiser, std::chrono::milliseconds timeout);

}  // namespace imageddpo
