#include "common/io/image.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "common/io/image_internal.h"

namespace imageddpo {
namespace {

constexpr uint8_t kWhite = 255;

/// Copies all of `source` into `target` with its top left corner at (left, top); it must fit.
void Paste(const Image& source, size_t left, size_t top, Image& target) {
  const size_t row_bytes = static_cast<size_t>(source.width) * 3;
  for (size_t y = 0; y < static_cast<size_t>(source.height); ++y) {
    const size_t to = ((top + y) * static_cast<size_t>(target.width) + left) * 3;
    std::copy_n(source.rgb.begin() + static_cast<ptrdiff_t>(y * row_bytes), row_bytes,
                target.rgb.begin() + static_cast<ptrdiff_t>(to));
  }
}

/// Lengths and offsets are rounded to the nearest, halves to even, as PIL's.
Image ResizeAndPad(const Image& image, int width, int height) {
  if (!CheckImage(image).ok() || width < 1 || height < 1) {
    throw std::invalid_argument("ResizeAndPad: empty image or size");
  }
  const double ratio = static_cast<double>(image.width) / image.height;
  const double target_ratio = static_cast<double>(width) / height;
  int scaled_width = width, scaled_height = height;
  if (ratio > target_ratio) {
    const double rows = static_cast<double>(image.height) / image.width * width;
    scaled_height = std::max(1, static_cast<int>(std::nearbyint(rows)));
  } else if (ratio < target_ratio) {
    scaled_width = std::max(1, static_cast<int>(std::nearbyint(ratio * height)));
  }
  const Image scaled = Resize(image, scaled_width, scaled_height);
  if (scaled_width == width && scaled_height == height) return scaled;
  Image padded{width, height, {}};
  padded.rgb.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  Paste(scaled, static_cast<size_t>(std::nearbyint((width - scaled_width) * 0.5)),
        static_cast<size_t>(std::nearbyint((height - scaled_height) * 0.5)), padded);
  return padded;
}

}  // namespace

absl::Status CheckImage(const Image& image) {
  if (image.width < 1 || image.height < 1 ||
      image.rgb.size() !=
          static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3) {
    return absl::InvalidArgumentError(absl::StrCat("an image of ", image.width, "x", image.height,
                                                   " cannot have ", image.rgb.size(), " bytes"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Image> DecodeImage(std::string_view bytes, std::string_view name_for_errors) {
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture,
                             DecodePicture(bytes, std::string(name_for_errors)));
  return ApplyOrientation({picture.width, picture.height, std::move(picture.samples)},
                          picture.orientation);
}

absl::StatusOr<Image> ReadImage(const std::string& path) {
  std::error_code unknown;  // Then ReadFile() says what is wrong.
  const uintmax_t size_bytes = std::filesystem::file_size(path, unknown);
  if (!unknown && size_bytes > kMaxImageFileBytes) return FileTooLarge(path);
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxImageFileBytes));
  return DecodeImage(bytes, path);
}

Image ResizeAndCentreCrop(const Image& image, int width, int height, ResizeFilter filter) {
  if (!CheckImage(image).ok() || width < 1 || height < 1) {
    throw std::invalid_argument("ResizeAndCentreCrop: empty image or size");
  }
  if (image.width == width && image.height == height) return image;
  // The side that must shrink least decides; the other is then at least as long as asked, also
  // after rounding.
  const double scale = std::max(static_cast<double>(width) / image.width,
                                static_cast<double>(height) / image.height);
  const int scaled_width = std::max(width, static_cast<int>(std::lround(image.width * scale)));
  const int scaled_height = std::max(height, static_cast<int>(std::lround(image.height * scale)));
  const Image scaled = Resize(image, scaled_width, scaled_height, filter);

  const size_t left = static_cast<size_t>(scaled_width - width) / 2;
  const size_t top = static_cast<size_t>(scaled_height - height) / 2;
  Image cropped{width, height, {}};
  cropped.rgb.reserve(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (size_t y = 0; y < static_cast<size_t>(height); ++y) {
    const size_t from = ((top + y) * static_cast<size_t>(scaled_width) + left) * 3;
    const auto begin = scaled.rgb.begin() + static_cast<ptrdiff_t>(from);
    cropped.rgb.insert(cropped.rgb.end(), begin, begin + static_cast<ptrdiff_t>(width) * 3);
  }
  return cropped;
}

Image ResizeTo(const Image& image, int width, int height, ResizeMode mode) {
  switch (mode) {
    case ResizeMode::kCrop:
      return ResizeAndCentreCrop(image, width, height);
    case ResizeMode::kStretch:
      return Resize(image, width, height);
    case ResizeMode::kPad:
      return ResizeAndPad(image, width, height);
  }
  throw std::invalid_argument("ResizeTo: unknown mode");
}

Image Tile(const std::vector<std::vector<Image>>& rows, int gap) {
  if (gap < 0) throw std::invalid_argument("Tile: negative gap");
  std::vector<size_t> column_widths;
  std::vector<size_t> row_heights;
  for (const std::vector<Image>& row : rows) {
    size_t height = 0;
    for (size_t column = 0; column < row.size(); ++column) {
      if (column_widths.size() <= column) column_widths.push_back(0);
      column_widths[column] =
          std::max(column_widths[column], static_cast<size_t>(row[column].width));
      height = std::max(height, static_cast<size_t>(row[column].height));
    }
    row_heights.push_back(height);
  }

  const auto total = [gap](const std::vector<size_t>& sizes) {
    size_t sum = sizes.empty() ? 0 : (sizes.size() - 1) * static_cast<size_t>(gap);
    for (const size_t size : sizes) sum += size;
    return sum;
  };
  Image grid;
  grid.width = static_cast<int>(total(column_widths));
  grid.height = static_cast<int>(total(row_heights));
  grid.rgb.assign(total(column_widths) * total(row_heights) * 3, kWhite);
  size_t top = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    size_t left = 0;
    for (size_t column = 0; column < rows[row].size(); ++column) {
      Paste(rows[row][column], left, top, grid);
      left += column_widths[column] + static_cast<size_t>(gap);
    }
    top += row_heights[row] + static_cast<size_t>(gap);
  }
  return grid;
}

}  // namespace imageddpo
