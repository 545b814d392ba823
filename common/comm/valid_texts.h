#pragma once

#include <google/protobuf/message.h>

namespace imageddpo {

/// Makes every string field of the message, and of the messages in it, valid UTF-8: texts that are
/// not become ValidMessage(). Without this a single file name or error message of a library makes
/// the whole message unreadable. Bytes fields are left alone. Called by whoever sends or stores a
/// message with texts in it.
void MakeTextsValid(google::protobuf::Message* message);

}  // namespace imageddpo
