/// The demo's image folders, made from Fashion-MNIST.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/demo/blur.h"

namespace imageddpo::demo {

/// One split of the data set: padded to 32x32, in the file's order.
struct Split {
  std::string name;  ///< "train" or "test"; the first part of every id
  std::vector<GreyImage> images;
  std::vector<uint8_t> labels;  ///< 0 to 9, one per image
};

/// Reads `train` or `test` (Fashion-MNIST's t10k files) from `folder`.
/// Errors name the file, and the Debian package where it is missing.
absl::StatusOr<Split> ReadSplit(const std::filesystem::path& folder, const std::string& name);

/// Which images of a split the demo uses: the first ones of each class in the file's order, equally
/// many of each (the lowest classes one more where `count` does not divide), returned in the file's
/// order. No chance involved.
/// @return kInvalidArgument  count is below 1, or a class has too few images
absl::StatusOr<std::vector<int>> SelectEvenly(const std::vector<uint8_t>& labels, int count);

/// One folder to write.
struct FolderPlan {
  std::filesystem::path path;
  std::optional<double> blur_sigma_px;  ///< none: clean images
  int count = 0;
};

/// Writes <id>.png (8-bit RGB) and metadata.jsonl (file_name, text, label, id) under a temporary
/// name beside `plan.path`, then renames; a marker file `.complete` holds what the folder was made
/// from.
/// @return false when the folder was already there, made from the same settings; true when it was
/// written.
///         kAlreadyExists: something else stands at that path. Never removes a folder without the
///         marker.
absl::StatusOr<bool> WriteFolder(const Split& split, const FolderPlan& plan);

}  // namespace imageddpo::demo
