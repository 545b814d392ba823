#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "rollout/data/listing/folder_files.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {

/// The images of a folder that no metadata describes: names of folders and files, and texts beside
/// the images, say what is known of them.
class PlainImages {
 public:
  /// @param images  names in `files`, sorted; not empty. @param listing  outlives this object.
  PlainImages(const FolderFiles& files, std::vector<std::string> images, Listing* listing)
      : files_(files), images_(std::move(images)), listing_(listing) {}

  /// Finds out what the folders' names mean. INVALID_ARGUMENT where they are splits of the set.
  absl::Status ReadFolders();

  /// Lists the images with what ReadFolders(), where it was called, has found.
  /// @param with_captions  texts beside the images are their prompts.
  /// @return INVALID_ARGUMENT naming a caption that is not UTF-8; errors of the disk.
  absl::Status List(bool with_captions);

  /// Names of files other than images that were used: captions and masks.
  const std::vector<std::string>& used_names() const { return used_names_; }

 private:
  struct Level;  ///< Names of folders at one depth.
  Level LevelAt(int depth) const;
  absl::Status RefuseSplits(const Level& level, int depth) const;
  void TakeMasksOut(const Level& level, int depth);
  void FindCod10kClasses();
  absl::Status ReadCaptions();
  void Describe(const std::string& image, Example* example) const;

  const FolderFiles& files_;
  std::vector<std::string> images_;
  Listing* const listing_;
  int class_depth_ = -1;       ///< Of the folders that are classes; -1: none are.
  int corruption_depth_ = -1;  ///< The same for folders with names of corruptions,
  int severity_depth_ = -1;    ///< and of severities.
  bool is_cod10k_ = false;
  std::vector<std::string> classes_;                           ///< Names of folders; by label.
  std::vector<std::pair<std::string, std::string>> masks_;     ///< Stem and path; sorted.
  std::vector<std::pair<std::string, std::string>> captions_;  ///< Path without extension, text.
  std::vector<std::string> used_names_;
};

}  // namespace imageddpo
