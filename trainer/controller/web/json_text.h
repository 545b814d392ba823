#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// As the client's `-o json` has it. Texts that are not UTF-8 are made so.
absl::StatusOr<std::string> JsonOf(google::protobuf::Message* message);

}  // namespace imageddpo
