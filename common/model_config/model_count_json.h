#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/model_config/model_count.h"

namespace imageddpo {

/// The counts of a model as one JSON object, for storage.
std::string ModelCountToJson(const ModelCount& count);
/// Reads it back; a number that is not there, as in an object of an earlier version, is 0.
/// @return DATA_LOSS if the text is no such object.
absl::StatusOr<ModelCount> ModelCountFromJson(std::string_view text);

}  // namespace imageddpo
