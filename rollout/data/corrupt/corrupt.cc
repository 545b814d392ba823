#include "rollout/data/corrupt/corrupt.h"

#include <stdexcept>
#include <string>

#include "common/config/choices.h"
#include "rollout/data/corrupt/corrupt_random.h"
#include "rollout/data/corrupt/kinds.h"

namespace imageddpo {

absl::StatusOr<Image> Corrupt(const Image& image, const CorruptSettings& settings,
                              std::string_view id) {
  if (image.width < 1 || image.height < 1) throw std::invalid_argument("Corrupt: empty image");
  const int severity = settings.severity;
  CorruptRandom random(settings.seed, WordOf(kCorruptKinds, settings.kind), id);
  switch (settings.kind) {
    case CorruptKind::kGaussianNoise:
      return GaussianNoise(image, severity, random);
    case CorruptKind::kShotNoise:
      return ShotNoise(image, severity, random);
    case CorruptKind::kImpulseNoise:
      return ImpulseNoise(image, severity, random);
    case CorruptKind::kDefocusBlur:
      return DefocusBlur(image, severity);
    case CorruptKind::kGlassBlur:
      return GlassBlur(image, severity, random);
    case CorruptKind::kMotionBlur:
      return CorruptByMotion(image, severity, random);
    case CorruptKind::kZoomBlur:
      return ZoomBlur(image, severity);
    case CorruptKind::kSnow:
      return Snow(image, severity, random);
    case CorruptKind::kFog:
      return Fog(image, severity, random);
    case CorruptKind::kBrightness:
      return Brightness(image, severity);
    case CorruptKind::kContrast:
      return Contrast(image, severity);
    case CorruptKind::kElasticTransform:
      return ElasticTransform(image, severity, random);
    case CorruptKind::kPixelate:
      return Pixelate(image, severity);
    case CorruptKind::kJpegCompression:
      return JpegCompression(image, severity);
  }
  throw std::invalid_argument("Corrupt: unknown kind");
}

}  // namespace imageddpo
