#pragma once

#include "absl/status/status.h"
#include "common/io/image.h"

// Helpers that the image_*.cc files share; nothing else includes this.
namespace imageddpo {

/// The image turned and mirrored so that it is seen as its orientation says.
Image ApplyOrientation(Image image, int orientation);

/// INVALID_ARGUMENT when the pixels do not match the size.
absl::Status CheckImage(const Image& image);

}  // namespace imageddpo
