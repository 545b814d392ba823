// What ranks with GPUs tell each other about transfers.
#include "common/comm/nccl/grant_message.h"

#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  GrantMessage ask{.kind = GrantMessage::Kind::kAsk,
                   .round = 7,
                   .participants = {0, 2, 5},
                   .operations = {3, 4},
                   .comm_id = std::string(16, 'i')};
  ask.spec.kind = OperationSpec::Kind::kAllGather;
  ask.spec.size_bytes = 4096;
  const GrantMessage refused{.kind = GrantMessage::Kind::kRefused,
                             .operations = {9},
                             .text = "rank 2 sends 8 bytes, and rank 1 expects 16"};
  return {EncodeGrantMessage(ask), EncodeGrantMessage(refused)};
}

void Read(std::string_view input) {
  const absl::string_view bytes(input.data(), input.size());
  GrantMessage message;
  if (!DecodeGrantMessage(bytes, &message)) return;
  Require(EncodeGrantMessage(message) == input, "what was read is written as it was");
}

}  // namespace imageddpo::fuzz
