#include "common/io/codec/raw_picture.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/format.h"

namespace imageddpo {
namespace {

absl::StatusOr<RawPicture> DecodeAs(ImageFormat format, std::string_view bytes) {
  switch (format) {
    case ImageFormat::kPng:
      return DecodePng(bytes);
    case ImageFormat::kJpeg:
      return DecodeJpeg(bytes);
    case ImageFormat::kWebp:
      return DecodeWebp(bytes);
    case ImageFormat::kBmp:
      return DecodeBmp(bytes);
    case ImageFormat::kTiff:
      return DecodeTiff(bytes);
    case ImageFormat::kGif:
      return DecodeGif(bytes);
  }
  return absl::InternalError("unknown image format");
}

}  // namespace

absl::Status FileTooLarge(const std::string& name) {
  return BadImage(name, absl::StrCat("the file is larger than ", kMaxImageFileBytes, " bytes"));
}

absl::Status CheckImageSize(int64_t width, int64_t height) {
  if (width < 1 || height < 1) return absl::InvalidArgumentError("it has no pixels");
  if (width > kMaxImageSide || height > kMaxImageSide || width * height > kMaxImagePixels) {
    return absl::InvalidArgumentError(absl::StrCat("its size ", width, "x", height,
                                                   " is over the limit of ", kMaxImagePixels,
                                                   " pixels and ", kMaxImageSide, " a side"));
  }
  return absl::OkStatus();
}

absl::StatusOr<RawPicture> MakePicture(int64_t width, int64_t height, int channels) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImageSize(width, height));
  RawPicture picture{
      .width = static_cast<int>(width), .height = static_cast<int>(height), .channels = channels};
  picture.samples.resize(picture.row_bytes() * static_cast<size_t>(height));
  return picture;
}

absl::StatusOr<RawPicture> DecodePicture(std::string_view bytes,
                                         const std::string& name_for_errors) {
  if (bytes.size() > kMaxImageFileBytes) return FileTooLarge(name_for_errors);
  IMAGEDDPO_ASSIGN_OR_RETURN(const ImageFormat format,
                             FormatOf(bytes.substr(0, kFormatHeadBytes), name_for_errors));
  absl::StatusOr<RawPicture> picture = DecodeAs(format, bytes);
  if (!picture.ok()) {
    return BadImage(name_for_errors, format, std::string(picture.status().message()));
  }
  return ToSrgb(*std::move(picture));
}

}  // namespace imageddpo
