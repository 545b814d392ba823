#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/io/image.h"

namespace imageddpo {

/// The image with one of ImageNet-C's corruptions (Hendrycks and Dietterich, arXiv:1903.12261), in
/// the arithmetic of the Python package imagecorruptions 1.1.2, for images of any size. Those
/// without random numbers (defocus_blur, zoom_blur, brightness, contrast, pixelate,
/// jpeg_compression) differ from it by 1 of 255 at most; the others draw from the same
/// distributions. A pure function of its arguments: the same bits on every rank and in every epoch.
/// @param image  at the size at which it is used: as in ImageNet-C, images are resized first.
/// @param id     of the example; with seed and kind the key of the random numbers.
/// @return INTERNAL where the JPEG codec fails.
/// @throws std::invalid_argument  empty image (a caller bug).
absl::StatusOr<Image> Corrupt(const Image& image, const CorruptSettings& settings,
                              std::string_view id);

}  // namespace imageddpo
