#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "common/comm/communicator.h"
#include "common/diffusion/lora.h"
#include "common/diffusion/unet.h"

namespace imageddpo {

/// Publication of a LoRA version from the leading trainer to the rollout ranks. Every rollout rank
/// answers with the version, the number of modules it has bound and the hash of what it will sample
/// with, so that a LoRA that was silently not applied stops the job.

/// Leader: starts to send `lora` as `version` to every rank and returns without waiting for
/// answers.
/// @throws CommError
std::vector<std::unique_ptr<Work>> AnnounceWeights(Communicator* gang,
                                                   const std::vector<int>& rollout_ranks,
                                                   const Lora& lora, int64_t version);

/// Rollout rank: receives the version into `lora` in place, binds it to `unet` and sends the
/// receipt.
/// @return INTERNAL where the announced LoRA is another one (version, modules, hash).
/// @throws CommError
absl::Status ReceiveWeights(Communicator* gang, int leader, int64_t version, Lora* lora, Unet* unet,
                            std::chrono::milliseconds timeout);

/// Leader: collects one receipt from every rank. @return INTERNAL naming the rank and both values
/// where a receipt is not that of `lora` as `version`. @throws CommError
absl::Status CheckReceipts(Communicator* gang, const std::vector<int>& rollout_ranks,
                           const Lora& lora, int64_t version, std::chrono::milliseconds timeout);

}  // namespace imageddpo
