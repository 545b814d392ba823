#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What names of folders and files mean in the layouts that image sets come in.
namespace imageddpo {

/// A corruption of ImageNet-C, as its folders and the files of CIFAR-10-C are named.
bool IsCorruptionName(std::string_view name);
/// A severity of ImageNet-C: "1" to "5".
bool IsSeverityName(std::string_view name);
/// train, test, validation and their usual spellings, in any case, with a year or without.
bool IsSplitName(std::string_view name);
/// A folder of images beside folders of masks (COD10K and other sets for segmentation).
bool IsImageFolderName(std::string_view name);
bool IsMaskFolderName(std::string_view name);

/// The parts of a COD10K file name, as COD10K-CAM-1-Aquatic-1-BatFish-3.jpg.
struct Cod10kName {
  bool camouflaged = false;
  std::string super_class;  ///< "Aquatic"
  int class_number = 0;     ///< From 1, over all super-classes.
  std::string class_name;   ///< "BatFish"
};
/// @param file_name  without folders. @return nullopt: another name.
std::optional<Cod10kName> ParseCod10kName(std::string_view file_name);

}  // namespace imageddpo
