#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model_config/model_count.h"

namespace imageddpo {

/// How large the LoRA of a file is.
struct AdapterSize {
  /// The largest rank of its modules, and the kinds of layers that it has modules for.
  AdapterTargets targets;
  double parameters = 0;  ///< Values of its factors of linear layers and 1×1 convolutions.
};

/// Reads a LoRA's size from the header of its file, whichever program wrote it; no values. Factors
/// for the text encoder and for larger convolutions, which are not trained, do not count.
/// @param path  a file, or a folder with one; see FindLoraFile().
/// @return NOT_FOUND, INVALID_ARGUMENT: naming the file, there is none, it is damaged, or has no
///         LoRA of the UNet.
absl::StatusOr<AdapterSize> ReadAdapterSize(const std::string& path);

}  // namespace imageddpo
