#include "common/comm/nccl/grant_message.h"

#include <cstring>

namespace imageddpo {
namespace {

template <typename Value>
void Put(std::string* bytes, const Value& value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename Values>
void PutAll(std::string* bytes, const Values& values) {
  Put(bytes, static_cast<std::int64_t>(values.size()));
  for (const auto& value : values) {
    Put(bytes, value);
  }
}

template <typename Value>
bool Take(absl::string_view* bytes, Value* value) {
  if (bytes->size() < sizeof(Value)) {
    return false;
  }
  std::memcpy(value, bytes->data(), sizeof(Value));
  bytes->remove_prefix(sizeof(Value));
  return true;
}

template <typename Values>
bool TakeAll(absl::string_view* bytes, Values* values) {
  constexpr std::size_t kSize = sizeof(typename Values::value_type);
  std::int64_t count = 0;
  if (!Take(bytes, &count) || count < 0 ||
      static_cast<std::size_t>(count) > bytes->size() / kSize) {
    return false;
  }
  values->resize(static_cast<std::size_t>(count));
  for (auto& value : *values) {
    Take(bytes, &value);
  }
  return true;
}

}  // namespace

std::string EncodeGrantMessage(const GrantMessage& message) {
  std::string bytes;
  Put(&bytes, message.kind);
  Put(&bytes, message.round);
  Put(&bytes, message.spec.kind);
  Put(&bytes, message.spec.peer);
  Put(&bytes, message.spec.tag);
  Put(&bytes, message.spec.dtype);
  Put(&bytes, message.spec.size_bytes);
  PutAll(&bytes, message.participants);
  PutAll(&bytes, message.operations);
  PutAll(&bytes, message.comm_id);
  PutAll(&bytes, message.text);
  return bytes;
}

bool DecodeGrantMessage(absl::string_view bytes, GrantMessage* message) {
  return Take(&bytes, &message->kind) && message->kind >= GrantMessage::Kind::kReady &&
         message->kind <= GrantMessage::Kind::kRefused && Take(&bytes, &message->round) &&
         Take(&bytes, &message->spec.kind) && message->spec.kind >= OperationSpec::Kind::kSend &&
         message->spec.kind <= OperationSpec::Kind::kBroadcast &&
         Take(&bytes, &message->spec.peer) && Take(&bytes, &message->spec.tag) &&
         Take(&bytes, &message->spec.dtype) && Take(&bytes, &message->spec.size_bytes) &&
         TakeAll(&bytes, &message->participants) && TakeAll(&bytes, &message->operations) &&
         TakeAll(&bytes, &message->comm_id) && TakeAll(&bytes, &message->text) && bytes.empty();
}

}  // namespace imageddpo
