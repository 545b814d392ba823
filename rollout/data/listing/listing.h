#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/choices.h"
#include "rollout/data/listing/example.h"

namespace imageddpo {

struct ListingOptions {
  /// Where files may lie once links are resolved. Empty: only in the set's own folder.
  std::vector<std::string> allowed_roots;
  std::string text_column = "text";  ///< Key or column that prompts are read from.
  /// Not empty: the set is these images, absolute paths, in this order, instead of what lies at a
  /// path; the rest is not used.
  std::vector<std::string> files;
  DataLayout layout = DataLayout::kAuto;
  int severity = 0;  ///< 1 to 5: that fifth of a .npy alone; 0: all of it.
};

/// What a set of images has, before any image is opened.
struct Listing {
  std::string path;  ///< Of the set, links resolved.
  ExampleTable examples;
  /// A line for each example whose file is not there; they are not in `examples`.
  std::vector<std::string> missing;
  /// What was found beside images and not used, and choices that may not be meant. For people.
  std::vector<std::string> warnings;
};

/// Lists a set of images, without opening any.
///
/// layout auto: a folder with its sub-folders, except names that begin with a dot. With a
/// metadata.jsonl or metadata.csv in any of them: the images that these name, relative to the
/// folder of the file. Without: every image, sorted by path; the text beside it in NAME.txt is its
/// prompt; labels are those of class folders, of an ImageNet-C layout or of COD10K's file names.
/// Or a .npy file with 8-bit pictures [N,H,W,3], with labels.npy beside it (CIFAR-10-C).
/// layout flat: the metadata.jsonl of the folder, or the .png, .jpg and .jpeg of the folder itself.
/// docs/formats.md describes all of it.
///
/// Ids are paths relative to the set as ValidText(), unless a metadata file has others; of single
/// files, the absolute paths.
/// @return NOT_FOUND: no such set. INVALID_ARGUMENT: it is empty, has a bad line (named as
///         file:line), could be meant in several ways (one folder per split), or has no severity to
///         choose (a folder, or a .npy whose number of pictures is not divisible by five).
absl::StatusOr<Listing> ListExamples(const std::string& path, const ListingOptions& options = {});

}  // namespace imageddpo
