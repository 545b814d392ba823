#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Where the next page of ListJobs starts: after the job with this number. Opaque to clients, and
/// checked, so that a token that was made up or cut is told from one of ours.
std::string MakePageToken(int64_t last_number);

/// @return the number below which the next page starts; the largest one for an empty token.
/// INVALID_ARGUMENT: not a token of MakePageToken.
absl::StatusOr<int64_t> ReadPageToken(const std::string& token);

}  // namespace imageddpo
