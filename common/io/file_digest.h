#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// A few digits that tell whether a large file is still the same, for a fraction of the time that
/// reading all of it takes: its size, and the first 16 digits of a SHA-256 over its size, its first
/// MiB and 64 pieces of 64 KiB that are spread evenly over the rest, its end among them. Weights of
/// another training differ in every piece. As "4265146304-0f3e5d6c7b8a9180".
absl::StatusOr<std::string> FileDigest(const std::string& path);

}  // namespace imageddpo
