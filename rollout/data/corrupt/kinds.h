#pragma once

#include "absl/status/statusor.h"
#include "common/io/image.h"
#include "rollout/data/corrupt/corrupt_random.h"

// The corruptions, one function each. Inside of this folder only; see corrupt.h.
namespace imageddpo {

/// @param severity  1 to 5.
Image GaussianNoise(const Image& image, int severity, CorruptRandom& random);
Image ShotNoise(const Image& image, int severity, CorruptRandom& random);
Image ImpulseNoise(const Image& image, int severity, CorruptRandom& random);

Image DefocusBlur(const Image& image, int severity);
Image GlassBlur(const Image& image, int severity, CorruptRandom& random);
Image CorruptByMotion(const Image& image, int severity, CorruptRandom& random);
Image ZoomBlur(const Image& image, int severity);

Image Snow(const Image& image, int severity, CorruptRandom& random);
Image Fog(const Image& image, int severity, CorruptRandom& random);
Image Brightness(const Image& image, int severity);
Image Contrast(const Image& image, int severity);

Image ElasticTransform(const Image& image, int severity, CorruptRandom& random);
Image Pixelate(const Image& image, int severity);
absl::StatusOr<Image> JpegCompression(const Image& image, int severity);

}  // namespace imageddpo
