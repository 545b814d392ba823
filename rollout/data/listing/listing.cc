#include "rollout/data/listing/listing.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <unordered_set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "common/io/image_names.h"
#include "rollout/data/listing/folder_files.h"
#include "rollout/data/listing/metadata.h"
#include "rollout/data/listing/npy.h"
#include "rollout/data/listing/path_resolver.h"
#include "rollout/data/listing/plain_images.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJsonLines = "metadata.jsonl";
constexpr const char* kCsv = "metadata.csv";

std::string LowerExtension(std::string_view name) {
  const std::string_view leaf = LeafOf(name);
  const size_t dot = leaf.rfind('.');
  if (dot == std::string_view::npos) return "";
  return absl::AsciiStrToLower(absl::string_view(leaf.data() + dot, leaf.size() - dot));
}

bool IsFlatImage(const std::string& name) {
  const std::string extension = LowerExtension(name);
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// Files that lie in image sets and say nothing of single images.
bool IsBystander(const std::string& name) {
  const std::string leaf = absl::AsciiStrToLower(std::string(LeafOf(name)));
  return absl::StartsWith(leaf, "readme") || absl::StartsWith(leaf, "license") ||
         absl::EndsWith(leaf, ".md") || leaf == "thumbs.db" || leaf == "desktop.ini";
}

std::vector<std::string> Where(const std::vector<std::string>& names,
                               const std::function<bool(const std::string&)>& is_wanted) {
  std::vector<std::string> found;
  std::copy_if(names.begin(), names.end(), std::back_inserter(found), is_wanted);
  return found;
}

/// Lists one folder.
class FolderListing {
 public:
  FolderListing(const ListingOptions& options, const FolderFiles& files, PathResolver* resolver,
                Listing* listing)
      : options_(options), files_(files), resolver_(resolver), listing_(listing) {}

  absl::Status Run() {
    const bool is_flat = options_.layout == DataLayout::kFlat;
    images_ = Where(files_.names, [is_flat](const std::string& name) {
      return is_flat ? IsFlatImage(name) : HasImageExtension(name);
    });
    metadata_ = Where(files_.names, [is_flat](const std::string& name) {
      const std::string_view leaf = LeafOf(name);
      return leaf == kJsonLines || (!is_flat && leaf == kCsv);
    });
    // A folder's files before those of its sub-folders.
    std::stable_sort(metadata_.begin(), metadata_.end(),
                     [](const auto& a, const auto& b) { return FolderPart(a) < FolderPart(b); });
    const bool describes_all = !metadata_.empty() && FolderPart(metadata_.front()).empty();
    PlainImages plain(files_, images_, listing_);
    const size_t num_warnings = listing_->warnings.size();
    if (!images_.empty() && !is_flat && !describes_all) {
      IMAGEDDPO_RETURN_IF_ERROR(plain.ReadFolders());
    }
    if (!metadata_.empty()) {
      listing_->warnings.resize(num_warnings);  // What folders are named says nothing here.
      return ReadMetadata(is_flat);
    }
    if (images_.empty()) return Empty();
    for (const std::string& link : files_.dangling) listing_->missing.push_back(link);
    IMAGEDDPO_RETURN_IF_ERROR(plain.List(/*with_captions=*/!is_flat));
    if (!is_flat) WarnOfOthers({plain.used_names().begin(), plain.used_names().end()});
    return absl::OkStatus();
  }

 private:
  absl::Status ReadMetadata(bool is_flat) {
    MetadataReader reader(options_.text_column, resolver_, listing_);
    std::unordered_set<std::string> used;
    std::string read_folder = "/";  // The name of no folder.
    for (const std::string& name : metadata_) {
      used.insert(name);
      const std::string prefix(FolderPart(name));
      if (prefix == read_folder) continue;
      // Of two, the JSON lines.
      const std::string json = prefix + kJsonLines;
      const bool is_json = std::find(metadata_.begin(), metadata_.end(), json) != metadata_.end();
      const std::string path = files_.PathOf(is_json ? json : name);
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMostListFileBytes));
      const MetadataReader::File file{
          .path = ValidText(path),
          .dir = prefix.empty()
                     ? files_.folder
                     : absl::StrCat(files_.folder, "/", prefix.substr(0, prefix.size() - 1)),
          .prefix = prefix};
      IMAGEDDPO_RETURN_IF_ERROR(is_json ? reader.ReadJsonLines(bytes, file)
                                        : reader.ReadCsv(bytes, file));
      if (is_json && name != json) {
        listing_->warnings.push_back(absl::StrCat("'", ValidText(files_.PathOf(name)),
                                                  "' is not read: there is a ", kJsonLines,
                                                  " beside it"));
      }
      read_folder = prefix;
    }
    IMAGEDDPO_RETURN_IF_ERROR(reader.Finish());
    if (listing_->examples.size() == 0 && listing_->missing.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", ValidText(files_.PathOf(metadata_.front())), "' names no image"));
    }
    if (is_flat) return absl::OkStatus();
    const std::vector<std::string> unnamed = Where(images_, [&](const std::string& name) {
      return !reader.used_files().contains(files_.PathOf(name));
    });
    if (!unnamed.empty()) {
      listing_->warnings.push_back(absl::StrCat(
          unnamed.size(), " images of '", ValidText(files_.folder), "' are not used, because ",
          ValidText(LeafOf(metadata_.front())), " does not name them: ", SomeNames(unnamed)));
    }
    for (const std::string& name : files_.names) {
      if (reader.used_files().contains(files_.PathOf(name))) used.insert(name);
    }
    WarnOfOthers(std::move(used));
    return absl::OkStatus();
  }

  absl::Status Empty() const {
    const std::vector<std::string> arrays = Where(files_.names, [](const std::string& name) {
      return LowerExtension(name) == ".npy" && LeafOf(name) != "labels.npy";
    });
    const std::string folder = ValidText(files_.folder);
    if (!arrays.empty() && options_.layout == DataLayout::kAuto) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", folder, "' holds arrays of pictures; give one of them, as '", folder,
                       "/", ValidText(arrays.front()), "' (there are ", SomeNames(arrays), ")"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the dataset folder '", folder, "' has neither a ", kJsonLines,
                     options_.layout == DataLayout::kFlat
                         ? " nor a .png, .jpg or .jpeg file"
                         : " or metadata.csv nor an image (.png, .jpg, .webp, .bmp, .tiff, .gif)"));
  }

  /// A line for each kind of file that is neither an image nor used.
  void WarnOfOthers(std::unordered_set<std::string> used) {
    std::map<std::string, std::vector<std::string>> others;
    for (const std::string& name : files_.names) {
      if (HasImageExtension(name) || used.contains(name) || IsBystander(name)) continue;
      others[LowerExtension(name)].push_back(name);
    }
    constexpr size_t kMostKinds = 8;
    size_t kinds = 0;
    for (const auto& [extension, names] : others) {
      if (++kinds > kMostKinds) break;
      listing_->warnings.push_back(absl::StrCat(SomeNames(names), " of '", ValidText(files_.folder),
                                                "' ", names.size() == 1 ? "is" : "are", " not read",
                                                RemedyFor(extension)));
    }
  }

  static std::string RemedyFor(const std::string& extension) {
    if (extension == ".txt" || extension == ".caption") {
      return ": no image beside them has the same name, or a metadata file has the prompts";
    }
    if (extension == ".json" || extension == ".jsonl" || extension == ".csv" ||
        extension == ".tsv") {
      return "; prompts and labels are read from metadata.jsonl or metadata.csv, with a "
             "\"file_name\" in each line";
    }
    if (extension == ".parquet" || extension == ".arrow") {
      return "; write its rows to a metadata.csv, with pandas: read_parquet(FILE).to_csv("
             "'metadata.csv', index=False)";
    }
    if (extension == ".zip" || extension == ".tar" || extension == ".gz" || extension == ".tgz") {
      return "; unpack it for what it holds";
    }
    return "";
  }

  const ListingOptions& options_;
  const FolderFiles& files_;
  PathResolver* const resolver_;
  Listing* const listing_;
  std::vector<std::string> images_, metadata_;
};

Listing ListSingleFiles(const std::vector<std::string>& files) {
  Listing listing{.path = "single files"};
  for (const std::string& file : files) {
    // Links were followed when the job was admitted; one that was put in their place since may not
    // lead elsewhere.
    const std::string folder = fs::path(file).parent_path().string();
    PathResolver resolver(std::vector<std::string>{folder});
    const absl::StatusOr<std::string> resolved = resolver.File(file, folder);
    if (resolved.ok()) {
      listing.examples.Add({.id = ValidText(*resolved), .file_name = *resolved});
    } else {
      listing.missing.emplace_back(resolved.status().message());
    }
  }
  return listing;
}

}  // namespace

absl::StatusOr<Listing> ListExamples(const std::string& path, const ListingOptions& options) {
  if (!options.files.empty()) return ListSingleFiles(options.files);
  std::error_code error;
  const fs::path absolute = fs::canonical(path, error);
  if (error) {
    return absl::ErrnoToStatus(
        error.value(), absl::StrCat("cannot open the dataset folder '", ValidText(path), "'"));
  }
  const std::string folder = absolute.string();
  if (options.layout == DataLayout::kAuto && fs::is_regular_file(absolute, error)) {
    if (LowerExtension(folder) == ".npy") return ListNpy(folder, options.severity);
    return absl::InvalidArgumentError(
        absl::StrCat("'", ValidText(folder),
                     "' is a file; give the folder of the images, or a .npy of pictures"));
  }
  if (options.severity != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", ValidText(folder),
        "' is not read as a .npy, and `data.severity` chooses a fifth of a .npy as "
        "CIFAR-10-C has them; of ImageNet-C's folders give the one of the severity as the path, as "
        "fog/3 (and how strongly `data.corrupt` works is `data.corrupt.severity`)"));
  }
  PathResolver resolver(options.allowed_roots.empty() ? std::vector<std::string>{folder}
                                                      : options.allowed_roots);
  IMAGEDDPO_ASSIGN_OR_RETURN(const FolderFiles files,
                             ListFiles(folder, options.layout == DataLayout::kAuto, &resolver));
  Listing listing{.path = folder, .examples = ExampleTable(folder), .warnings = files.warnings};
  IMAGEDDPO_RETURN_IF_ERROR(FolderListing(options, files, &resolver, &listing).Run());
  return listing;
}

}  // namespace imageddpo
