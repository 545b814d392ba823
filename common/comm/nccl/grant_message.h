#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace imageddpo {

/// One call of a communicator, as far as the other ranks need to know it.
struct OperationSpec {
  enum class Kind : std::int32_t { kSend, kRecv, kAllReduceSum, kAllGather, kBroadcast };

  Kind kind = Kind::kSend;
  std::int32_t peer = 0;  ///< Of a transfer: the other rank. Of a broadcast: the root.
  std::int64_t tag = 0;   ///< Of a transfer.
  std::int32_t dtype = 0;
  std::int64_t size_bytes = 0;  ///< Of this rank's tensor (of an all-gather: the input).

  bool collective() const { return kind != Kind::kSend && kind != Kind::kRecv; }
};

/// What ranks tell each other before and after tensors move; see grant_scheduler.h. Travels as
/// bytes between processes of one build.
struct GrantMessage {
  enum class Kind : std::int32_t {
    kReady,    ///< "I have come to this operation": operations = {its id}, spec.
    kAsk,      ///< "Reserve yourself for this round": operations = ids on the receiver.
    kGo,       ///< "All have": start the round.
    kDone,     ///< "My part of the round is over."
    kEnd,      ///< "Everyone's is."
    kRefused,  ///< "These operations do not fit": operations = ids on the receiver, text.
  };

  Kind kind = Kind::kReady;
  std::int64_t round = 0;                  ///< Numbered by its coordinator, participants[0].
  std::vector<std::int32_t> participants;  ///< Ascending.
  std::vector<std::int64_t> operations;
  OperationSpec spec;
  std::string comm_id;  ///< kAsk, kGo: NCCL's id where these ranks have no communicator yet.
  std::string text;
};

std::string EncodeGrantMessage(const GrantMessage& message);

/// @return false when the bytes are no such message.
bool DecodeGrantMessage(absl::string_view bytes, GrantMessage* message);

}  // namespace imageddpo
