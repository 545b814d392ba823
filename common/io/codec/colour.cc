#include <lcms2.h>

#include <memory>
#include <utility>

#include "common/io/codec/raw_picture.h"

namespace imageddpo {
namespace {

struct ContextDeleter {
  void operator()(_cmsContext_struct* context) const { cmsDeleteContext(context); }
};
struct ProfileDeleter {
  void operator()(void* profile) const { cmsCloseProfile(profile); }
};
struct TransformDeleter {
  void operator()(void* transform) const { cmsDeleteTransform(transform); }
};
using Profile = std::unique_ptr<void, ProfileDeleter>;

struct Kind {
  cmsUInt32Number format;
  cmsColorSpaceSignature space;
};

Kind KindOf(int channels) {
  switch (channels) {
    case 1:
      return {TYPE_GRAY_8, cmsSigGrayData};
    case 4:
      return {TYPE_CMYK_8, cmsSigCmykData};
    default:
      return {TYPE_RGB_8, cmsSigRgbData};
  }
}

/// Writes the picture's pixels in sRGB to `rgb`, which may be the picture's own samples.
/// @return whether the profile could be used.
bool ApplyProfile(const RawPicture& picture, uint8_t* rgb) {
  if (picture.profile.empty()) return false;
  const std::unique_ptr<_cmsContext_struct, ContextDeleter> context(
      cmsCreateContext(nullptr, nullptr));
  const Kind kind = KindOf(picture.channels);
  const Profile from(cmsOpenProfileFromMemTHR(
      context.get(), picture.profile.data(), static_cast<cmsUInt32Number>(picture.profile.size())));
  if (from == nullptr || cmsGetColorSpace(from.get()) != kind.space) return false;
  const Profile to(cmsCreate_sRGBProfileTHR(context.get()));
  if (to == nullptr) return false;
  const std::unique_ptr<void, TransformDeleter> transform(cmsCreateTransformTHR(
      context.get(), from.get(), kind.format, to.get(), TYPE_RGB_8, INTENT_PERCEPTUAL, 0));
  if (transform == nullptr) return false;
  for (size_t y = 0; y < static_cast<size_t>(picture.height); ++y) {
    cmsDoTransform(transform.get(), picture.samples.data() + y * picture.row_bytes(),
                   rgb + y * static_cast<size_t>(picture.width) * 3,
                   static_cast<cmsUInt32Number>(picture.width));
  }
  return true;
}

/// a · b / 255, rounded as PIL's MULDIV255.
uint8_t MultiplyInk(int a, int b) {
  const int product = a * b + 128;
  return static_cast<uint8_t>(((product >> 8) + product) >> 8);
}

void ExpandWithoutProfile(const RawPicture& picture, uint8_t* rgb) {
  const auto channels = static_cast<size_t>(picture.channels);
  for (size_t i = 0; i < picture.samples.size(); i += channels, rgb += 3) {
    const uint8_t* pixel = picture.samples.data() + i;
    if (channels == 1) {
      rgb[0] = rgb[1] = rgb[2] = pixel[0];
      continue;
    }
    const int paper = 255 - pixel[3];
    for (size_t c = 0; c < 3; ++c) {
      rgb[c] = static_cast<uint8_t>(paper - MultiplyInk(pixel[c], paper));
    }
  }
}

}  // namespace

RawPicture ToSrgb(RawPicture picture) {
  if (picture.channels == 3) {
    ApplyProfile(picture, picture.samples.data());
    picture.profile.clear();
    return picture;
  }
  RawPicture rgb{.width = picture.width,
                 .height = picture.height,
                 .channels = 3,
                 .orientation = picture.orientation};
  rgb.samples.resize(rgb.row_bytes() * static_cast<size_t>(rgb.height));
  if (!ApplyProfile(picture, rgb.samples.data())) {
    ExpandWithoutProfile(picture, rgb.samples.data());
  }
  return rgb;
}

}  // namespace imageddpo
