#include "rollout/data/listing/plain_images.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "rollout/data/listing/folder_names.h"

namespace imageddpo {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// The value of a key in sorted pairs; null: there is none.
const std::string* FindIn(const Pairs& pairs, const std::string& key) {
  const auto found = std::lower_bound(pairs.begin(), pairs.end(), std::pair(key, std::string()));
  return found != pairs.end() && found->first == key ? &found->second : nullptr;
}

std::string WithoutExtension(std::string_view name) {
  return std::string(FolderPart(name)) + std::string(StemOf(name));
}

template <typename Predicate>
bool AllOf(const std::set<std::string>& names, const Predicate& predicate) {
  return std::all_of(names.begin(), names.end(), predicate);
}

}  // namespace

struct PlainImages::Level {
  std::set<std::string> folders;
  bool has_images = false;  ///< Some lie above these folders.
};

PlainImages::Level PlainImages::LevelAt(int depth) const {
  Level level;
  std::string_view last;
  for (const std::string& image : images_) {
    const std::string_view folder = FolderAt(image, depth);
    if (folder.empty()) {
      level.has_images = true;
    } else if (folder != last) {
      level.folders.emplace(folder);
      last = folder;
    }
  }
  return level;
}

absl::Status PlainImages::RefuseSplits(const Level& level, int depth) const {
  if (level.folders.size() < 2 || !AllOf(level.folders, IsSplitName)) return absl::OkStatus();
  // All images lie in the same folder above the splits.
  std::string above;
  for (int i = 0; i < depth; ++i)
    absl::StrAppend(&above, std::string(FolderAt(images_.front(), i)), "/");
  std::vector<std::string> paths;
  for (const std::string& folder : level.folders) {
    paths.push_back(
        absl::StrCat("'", ValidText(absl::StrCat(files_.folder, "/", above, folder)), "'"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", ValidText(files_.folder),
      "' has one folder per split; give the one that is meant: ", absl::StrJoin(paths, " or ")));
}

void PlainImages::TakeMasksOut(const Level& level, int depth) {
  const auto is_mask = [&](const std::string& image) {
    return IsMaskFolderName(FolderAt(image, depth));
  };
  // The first in the order of the names has the masks of whole objects: GT, GT_Object, masks.
  std::vector<std::string> folders(level.folders.begin(), level.folders.end());
  std::stable_sort(folders.begin(), folders.end(), [](const std::string& a, const std::string& b) {
    const auto is_other = [](const std::string& name) {
      const std::string lower = absl::AsciiStrToLower(name);
      return lower.find("edge") != std::string::npos ||
             lower.find("instance") != std::string::npos ||
             lower.find("ranking") != std::string::npos;
    };
    return is_other(a) < is_other(b);
  });
  const std::string first = *std::find_if(folders.begin(), folders.end(),
                                          [](const auto& f) { return IsMaskFolderName(f); });
  for (const std::string& image : images_) {
    if (!is_mask(image)) continue;
    used_names_.push_back(image);
    if (FolderAt(image, depth) == first) {
      masks_.emplace_back(std::string(StemOf(image)), files_.PathOf(image));
    }
  }
  std::sort(masks_.begin(), masks_.end());
  images_.erase(std::remove_if(images_.begin(), images_.end(), is_mask), images_.end());
}

absl::Status PlainImages::ReadFolders() {
  for (int depth = 0;; ++depth) {
    Level level = LevelAt(depth);
    if (!level.has_images) IMAGEDDPO_RETURN_IF_ERROR(RefuseSplits(level, depth));
    const auto num_images =
        std::count_if(level.folders.begin(), level.folders.end(), IsImageFolderName);
    const auto num_masks =
        std::count_if(level.folders.begin(), level.folders.end(), IsMaskFolderName);
    if (!level.has_images && num_images == 1 && num_masks >= 1 &&
        static_cast<size_t>(num_images + num_masks) == level.folders.size()) {
      TakeMasksOut(level, depth);
      level = LevelAt(depth);
    }
    if (level.has_images) {
      if (!level.folders.empty()) {
        listing_->warnings.push_back(absl::StrCat(
            "images of '", ValidText(files_.folder),
            "' lie beside folders with images, so names of "
            "folders (",
            SomeNames({level.folders.begin(), level.folders.end()}), ") are not taken for labels"));
      }
      break;
    }
    const Level below = LevelAt(depth + 1);
    const auto all_of_many = [&](const std::string& what, const char* example) {
      if (level.folders.size() < 2) return;
      listing_->warnings.push_back(absl::StrCat(
          "'", ValidText(files_.folder), "' has ", level.folders.size(), " ", what, " (",
          SomeNames({level.folders.begin(), level.folders.end()}),
          "), and all of them are used together; for one of them give its folder, as ", example));
    };
    if (AllOf(level.folders, IsCorruptionName) && corruption_depth_ < 0 && !below.has_images &&
        AllOf(below.folders, IsSeverityName)) {
      corruption_depth_ = depth;
      all_of_many("corruptions", "gaussian_noise/3");
    } else if (AllOf(level.folders, IsSeverityName) && severity_depth_ < 0 && !below.has_images) {
      severity_depth_ = depth;
      all_of_many("severities", "3");
    } else if (level.folders.size() > 1) {
      class_depth_ = depth;
      classes_.assign(level.folders.begin(), level.folders.end());
      break;
    }
  }
  if (class_depth_ < 0) FindCod10kClasses();
  return absl::OkStatus();
}

void PlainImages::FindCod10kClasses() {
  std::map<int, std::string> names;
  for (const std::string& image : images_) {
    const std::optional<Cod10kName> parsed = ParseCod10kName(LeafOf(image));
    if (!parsed) continue;
    const auto [found, is_new] = names.emplace(parsed->class_number, parsed->class_name);
    if (is_new || found->second == parsed->class_name) continue;
    listing_->warnings.push_back(absl::StrCat("COD10K's class ", parsed->class_number, " is named ",
                                              found->second, " and ", parsed->class_name,
                                              ", so the images have no labels"));
    return;
  }
  if (names.empty()) return;
  is_cod10k_ = true;
  classes_.resize(static_cast<size_t>(names.rbegin()->first));
  for (const auto& [number, name] : names)
    classes_[static_cast<size_t>(number - 1)] = ValidText(name);
}

absl::Status PlainImages::ReadCaptions() {
  std::set<std::string> wanted;
  for (const std::string& name : files_.names) {
    if (absl::EndsWith(name, ".txt") || absl::EndsWith(name, ".caption")) {
      wanted.insert(WithoutExtension(name));
    }
  }
  if (wanted.empty()) return absl::OkStatus();
  std::vector<std::string> without;
  for (const std::string& image : images_) {
    const std::string stem = WithoutExtension(image);
    if (!wanted.contains(stem)) {
      without.push_back(image);
      continue;
    }
    if (!captions_.empty() && captions_.back().first == stem) continue;  // a.jpg after a.png.
    std::string name = stem + ".txt";
    if (!std::binary_search(files_.names.begin(), files_.names.end(), name))
      name = stem + ".caption";
    const std::string path = files_.PathOf(name);
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(bytes, ValidText(path)));
    std::string caption(absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())));
    absl::StrReplaceAll({{"\r\n", " "}, {"\n", " "}, {"\r", " "}}, &caption);
    captions_.emplace_back(stem, std::move(caption));
    used_names_.push_back(std::move(name));
  }
  std::sort(captions_.begin(), captions_.end());
  if (!captions_.empty() && !without.empty()) {
    listing_->warnings.push_back(absl::StrCat(
        without.size(), " of ", images_.size(), " images of '", ValidText(files_.folder),
        "' have no text beside them and use `data.prompt`: ", SomeNames(without)));
  }
  return absl::OkStatus();
}

void PlainImages::Describe(const std::string& image, Example* example) const {
  if (class_depth_ >= 0) {
    const std::string folder(FolderAt(image, class_depth_));
    example->label = std::lower_bound(classes_.begin(), classes_.end(), folder) - classes_.begin();
  }
  if (const std::string* caption = FindIn(captions_, WithoutExtension(image)))
    example->text = *caption;
  nlohmann::json& metadata = example->metadata;
  if (corruption_depth_ >= 0)
    metadata["corruption"] = std::string(FolderAt(image, corruption_depth_));
  if (severity_depth_ >= 0) metadata["severity"] = FolderAt(image, severity_depth_).front() - '0';
  if (const std::string* mask = FindIn(masks_, std::string(StemOf(image)))) {
    metadata["mask_file_name"] = ValidText(*mask);
  }
  if (!is_cod10k_) return;
  if (const std::optional<Cod10kName> parsed = ParseCod10kName(LeafOf(image))) {
    example->label = parsed->class_number - 1;
    metadata["super_class"] = ValidText(parsed->super_class);
    metadata["camouflaged"] = parsed->camouflaged;
  }
}

absl::Status PlainImages::List(bool with_captions) {
  if (with_captions) IMAGEDDPO_RETURN_IF_ERROR(ReadCaptions());
  for (const std::string& image : images_) {
    Example example{.id = ValidText(image), .file_name = files_.PathOf(image)};
    Describe(image, &example);
    listing_->examples.Add(example);
  }
  std::vector<std::string> names;
  for (const std::string& name : classes_) names.push_back(ValidText(name));
  listing_->examples.SetClassNames(std::move(names));
  return absl::OkStatus();
}

}  // namespace imageddpo
