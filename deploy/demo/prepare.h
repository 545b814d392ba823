#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace imageddpo::demo {

struct DataOptions {
  std::filesystem::path dataset = "/usr/share/datasets/fashion-mnist";
  std::filesystem::path output = "out/demo";
  int train_count = 1000;
  int held_out_count = 2000;
  double sigma_px = 1.6;
};

/// Makes the demo's image folders from Fashion-MNIST, and says on stdout which:
///   <output>/blurred         training images, blurred
///   <output>/held-out        test images, blurred
///   <output>/held-out-clean  the same test images, clean
/// Errors are those of ReadSplit() and WriteFolder().
absl::Status Prepare(const DataOptions& options);

}  // namespace imageddpo::demo
