#include "rollout/data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "rollout/data/metadata.h"

namespace imageddpo {
namespace {

constexpr const char* kMetadataFile = "metadata.jsonl";

bool HasImageExtension(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  return absl::EndsWith(lower, ".png") || absl::EndsWith(lower, ".jpg") ||
         absl::EndsWith(lower, ".jpeg");
}

/// Every image of a folder without a metadata file.
absl::StatusOr<std::vector<Example>> ListImages(const std::vector<std::string>& names,
                                                const std::string& dir,
                                                const std::vector<std::string>& allowed_roots) {
  std::vector<Example> examples;
  for (const std::string& name : names) {
    if (!HasImageExtension(name) || absl::StartsWith(name, ".")) continue;
    Example example;
    example.id = ValidText(name);
    example.metadata = nlohmann::json::object();
    IMAGEDDPO_ASSIGN_OR_RETURN(example.file_name, ResolveUnderRoots(name, dir, allowed_roots));
    IMAGEDDPO_RETURN_IF_ERROR(CheckIsFile(example.file_name));
    examples.push_back(std::move(example));
  }
  return examples;
}

}  // namespace

/// Images at the size they were asked for, 8 bits a channel.
class Dataset::Cache {
 public:
  explicit Cache(size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  using Key = std::tuple<int64_t, bool, int, int>;  // Example, whether its target, width, height.

  /// The image when it is kept, else null. Stays valid as long as the cache.
  const Image* Find(const Key& key) const {
    const absl::MutexLock lock(&mutex_);
    const auto found = images_.find(key);
    return found == images_.end() ? nullptr : &found->second;
  }

  void Offer(const Key& key, Image image) {
    const absl::MutexLock lock(&mutex_);
    if (image.rgb.size() > budget_bytes_ - used_bytes_) return;
    const size_t size_bytes = image.rgb.size();
    if (images_.emplace(key, std::move(image)).second) used_bytes_ += size_bytes;
  }

 private:
  const size_t budget_bytes_;
  mutable absl::Mutex mutex_;
  size_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Key, Image> images_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<Dataset> Dataset::Open(const std::string& dir, const DatasetOptions& options) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::canonical(dir, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(),
                               absl::StrCat("cannot open the dataset folder '", dir, "'"));
  }
  const std::string folder = absolute.string();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  const std::vector<std::string> roots =
      options.allowed_roots.empty() ? std::vector<std::string>{folder} : options.allowed_roots;

  std::vector<Example> examples;
  const std::string metadata_path = absl::StrCat(folder, "/", kMetadataFile);
  if (std::find(names.begin(), names.end(), kMetadataFile) != names.end()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(metadata_path));
    IMAGEDDPO_ASSIGN_OR_RETURN(examples, ParseMetadata(text, metadata_path, folder, roots));
    if (examples.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("'", metadata_path, "' names no image"));
    }
  } else {
    IMAGEDDPO_ASSIGN_OR_RETURN(examples, ListImages(names, folder, roots));
    if (examples.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("the dataset folder '", folder,
                                                     "' has neither a ", kMetadataFile,
                                                     " nor a .png, .jpg or .jpeg file"));
    }
  }
  return Dataset(folder, std::move(examples), options.cache_bytes);
}

Dataset::Dataset(std::string path, std::vector<Example> examples, size_t cache_bytes)
    : path_(std::move(path)),
      examples_(std::move(examples)),
      cache_(std::make_unique<Cache>(cache_bytes)) {}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

const Example& Dataset::at(int64_t i) const {
  if (i < 0 || i >= size()) {
    throw std::out_of_range(absl::StrCat("Dataset::at: ", i, " of ", size(), " examples"));
  }
  return examples_[static_cast<size_t>(i)];
}

absl::StatusOr<at::Tensor> Dataset::LoadImage(int64_t i, int width, int height) const {
  return Load(i, false, width, height);
}

absl::StatusOr<at::Tensor> Dataset::LoadTarget(int64_t i, int width, int height) const {
  if (at(i).target_file_name.empty()) {
    return absl::NotFoundError(absl::StrCat("example '", at(i).id, "' has no target"));
  }
  return Load(i, true, width, height);
}

absl::StatusOr<at::Tensor> Dataset::Load(int64_t i, bool is_target, int width, int height) const {
  const Example& example = at(i);
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot load an image of ", width, "x", height, " pixels"));
  }
  const Cache::Key key(i, is_target, width, height);
  if (const Image* kept = cache_->Find(key); kept != nullptr) return ImageToTensor(*kept);

  absl::StatusOr<Image> image = ReadImage(is_target ? example.target_file_name : example.file_name);
  if (!image.ok()) return Annotate(image.status(), absl::StrCat("example '", example.id, "'"));
  Image sized = ResizeAndCentreCrop(*image, width, height);
  at::Tensor tensor_CHW = ImageToTensor(sized);
  cache_->Offer(key, std::move(sized));
  return tensor_CHW;
}

}  // namespace imageddpo
