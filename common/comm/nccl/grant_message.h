#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace imageddpo {

/// One call of a communicator, as far as the other ranks have to know it.
struct OperationSpec {
  enum class Kind : std::int32_t { kSend, kRecv, kAllReduceSum, kAllGather, kBroadcast };

  Kind kind = Kind::kSend;
  std::int32_t peer = 0;  ///< The other rank of a transfer; the root of a broadcast.
  std::int64_t tag = 0;
  std::int32_t dtype = 0;
  std::int64_t size_bytes = 0;  ///< Of this rank's tensor (for an all-gather, the input).
  std::vector<std::int32_t> participants = {};  ///< Of a collective, ascending.

  bool collective() const { return kind != Kind::kSend && kind != Kind::kRecv; }
};

/// What ranks tell each other before and after tensors are transferred; the protocol is described
/// in grant_scheduler.h. Sent as bytes between processes of the same build.
struct GrantMessage {
  enum class Kind : std::int32_t {
    kReady,    ///< The sender has come to this operation: operations = {its id}, spec.
    kAsk,      ///< The receiver shall reserve itself for a round: spec.kind, and operations = the
               ///< ids on the receiver; of a collective the id on each of the participants.
    kGo,       ///< All participants are reserved: start the round.
    kDone,     ///< The sender's part of the round is over.
    kEnd,      ///< All participants' parts are over.
    kRefused,  ///< The operations do not match: operations = ids on the receiver, text.
  };

  Kind kind = Kind::kReady;
  std::int64_t round = 0;                  ///< Numbered by its coordinator, participants[0].
  std::vector<std::int32_t> participants;  ///< Ascending. kReady: of a collective.
  std::vector<std::int64_t> operations;
  OperationSpec spec;   ///< Its participants do not travel.
  std::string comm_id;  ///< kAsk, kGo: NCCL's id if these ranks have no communicator yet.
  std::string text;
};

std::string EncodeGrantMessage(const GrantMessage& message);

/// @return false if the bytes are not such a message.
bool DecodeGrantMessage(absl::string_view bytes, GrantMessage* message);

}  // namespace imageddpo
