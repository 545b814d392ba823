#pragma once

#include <google/protobuf/message.h>

namespace imageddpo {

/// Makes every string field of the message, and of its submessages, valid UTF-8: others are
/// replaced by ValidMessage() of them. Protobuf cannot parse a message with invalid UTF-8, so a
/// single file name or library message would make all of it unreadable. Bytes fields are unchanged.
/// To be called before a message with texts is sent or stored.
void MakeTextsValid(google::protobuf::Message* message);

}  // namespace imageddpo
