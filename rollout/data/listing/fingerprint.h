#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "rollout/data/listing/example.h"

namespace imageddpo {

/// What a set of images is, so that a job that continues can tell whether it is still the same:
/// ids, their order, and of each image prompt, label, metadata, target and size of the file in
/// bytes. Not times, not where the folder lies, and not the pixels: a file that was replaced by one
/// of the same size counts as the same.
struct Fingerprint {
  std::vector<std::string> ids;
  std::vector<std::string> hashes;  ///< 8 hexadecimal digits for each id.
  std::string sha256;               ///< Of all of it.

  /// @param sizes_bytes  of each example's file.
  static Fingerprint Of(const ExampleTable& examples, const std::vector<uint64_t>& sizes_bytes);

  nlohmann::json ToJson() const;
  /// INVALID_ARGUMENT: it is no fingerprint.
  static absl::StatusOr<Fingerprint> FromJson(const nlohmann::json& json);
};

/// What has changed, with the first names: "2 images were added (a.png, b.png), 1 was removed
/// (c.png)". Empty: nothing.
std::string Difference(const Fingerprint& before, const Fingerprint& now);

}  // namespace imageddpo
