#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Encodes where the next page of ListJobs starts: after the job with this number. Opaque to
/// clients. Has a checksum, so that a made-up or truncated token is recognised.
std::string MakePageToken(int64_t last_number);

/// @return the number below which the next page starts; the largest number for an empty token.
///         INVALID_ARGUMENT: not a token of MakePageToken().
absl::StatusOr<int64_t> ReadPageToken(const std::string& token);

}  // namespace imageddpo
