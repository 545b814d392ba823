#include "rollout/data/listing/folder_names.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace imageddpo {
namespace {

constexpr std::array kCorruptions = {"gaussian_noise", "shot_noise", "impulse_noise",
                                     "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
                                     "snow", "frost", "fog", "brightness", "contrast",
                                     "elastic_transform", "pixelate", "jpeg_compression",
                                     // The four extra ones.
                                     "speckle_noise", "gaussian_blur", "spatter", "saturate"};
constexpr std::array kSplits = {"train", "training", "test", "testing", "validation",
                                "valid", "val",      "dev",  "eval",    "evaluation"};
constexpr std::array kImageFolders = {"image", "images", "img", "imgs", "jpegimages"};
constexpr std::array kMaskFolders = {
    "gt",   "gt_object", "gt_instance", "gt_edge", "gt_ranking",
    "mask", "masks",     "edge",        "edges",   "segmentationclass"};

template <size_t N>
bool IsIn(const std::array<const char*, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string Lower(std::string_view name) {
  return absl::AsciiStrToLower(absl::string_view(name.data(), name.size()));
}

}  // namespace

bool IsCorruptionName(std::string_view name) { return IsIn(kCorruptions, name); }

bool IsSeverityName(std::string_view name) {
  return name.size() == 1 && name.front() >= '1' && name.front() <= '5';
}

bool IsSplitName(std::string_view name) {
  std::string lower = Lower(name);
  constexpr size_t kYearDigits = 4;  // train2017
  if (lower.size() > kYearDigits &&
      std::all_of(lower.end() - kYearDigits, lower.end(),
                  [](unsigned char c) { return absl::ascii_isdigit(c); })) {
    lower.resize(lower.size() - kYearDigits);
  }
  return IsIn(kSplits, lower);
}

bool IsImageFolderName(std::string_view name) { return IsIn(kImageFolders, Lower(name)); }
bool IsMaskFolderName(std::string_view name) { return IsIn(kMaskFolders, Lower(name)); }

std::optional<Cod10kName> ParseCod10kName(std::string_view file_name) {
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(file_name.data(), file_name.size()), '-');
  constexpr size_t kParts = 7;
  if (parts.size() != kParts || parts[0] != "COD10K") return std::nullopt;
  Cod10kName name{
      .camouflaged = parts[1] == "CAM", .super_class = parts[3], .class_name = parts[5]};
  constexpr int kMostClasses = 1000;
  if (!absl::SimpleAtoi(parts[4], &name.class_number) || name.class_number < 1 ||
      name.class_number > kMostClasses || name.class_name.empty()) {
    return std::nullopt;
  }
  return name;
}

}  // namespace imageddpo
