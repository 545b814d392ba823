#include "rollout/data/dataset.h"

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/status.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "rollout/data/corrupt/corrupt.h"
#include "rollout/data/listing/check.h"

namespace imageddpo {
namespace {

// Files of an example, as bits.
constexpr uint8_t kImageFile = 1;
constexpr uint8_t kTargetFile = 2;  ///< That its metadata names.

}  // namespace

/// Images at the size they were asked for, 8 bits a channel; and which files could be read.
class Dataset::Cache {
 public:
  Cache(size_t budget_bytes, size_t num_examples)
      : budget_bytes_(budget_bytes), files_read_(num_examples) {}

  /// The image when it is kept, else null. Stays valid as long as the cache.
  const Image* Find(const Key& key) const {
    const absl::MutexLock lock(&mutex_);
    const auto found = images_.find(key);
    return found == images_.end() ? nullptr : &found->second;
  }

  bool Has(const Key& key) const {
    const absl::MutexLock lock(&mutex_);
    return images_.contains(key) || ahead_.contains(key);
  }

  /// The image that was put aside; it is no longer here.
  std::optional<Image> Take(const Key& key) {
    const absl::MutexLock lock(&mutex_);
    const auto found = ahead_.find(key);
    if (found == ahead_.end()) return std::nullopt;
    Image image = std::move(found->second);
    ahead_.erase(found);
    return image;
  }

  void PutAside(const Key& key, Image image) {
    const absl::MutexLock lock(&mutex_);
    ahead_.insert_or_assign(key, std::move(image));
  }

  void Offer(const Key& key, Image image) {
    const absl::MutexLock lock(&mutex_);
    if (image.rgb.size() > budget_bytes_ - used_bytes_) return;
    const size_t size_bytes = image.rgb.size();
    if (images_.emplace(key, std::move(image)).second) used_bytes_ += size_bytes;
  }

  void NoteRead(int64_t i, uint8_t file) {
    const absl::MutexLock lock(&mutex_);
    files_read_[static_cast<size_t>(i)] |= file;
  }

  /// Those of NoteRead().
  uint8_t FilesRead(int64_t i) const {
    const absl::MutexLock lock(&mutex_);
    return files_read_[static_cast<size_t>(i)];
  }

 private:
  const size_t budget_bytes_;
  mutable absl::Mutex mutex_;
  size_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Key, Image> images_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, Image> ahead_ ABSL_GUARDED_BY(mutex_);  ///< Loaded, not used yet; not counted.
  std::vector<uint8_t> files_read_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<Dataset> Dataset::Open(const std::string& path, const DatasetOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(Listing listing, ListExamples(path, options));
  if (!listing.missing.empty()) {
    const int64_t listed = listing.examples.size() + static_cast<int64_t>(listing.missing.size());
    return absl::InvalidArgumentError(BadImagesText(listing.path, listed, listing.missing));
  }
  return Dataset(std::move(listing), options.form, options.cache_bytes);
}

Dataset::Dataset(Listing listing, const ImageForm& form, size_t cache_bytes)
    : listing_(std::move(listing)),
      form_(form),
      cache_(std::make_unique<Cache>(cache_bytes, static_cast<size_t>(size()))) {}

bool Dataset::HasTarget(int64_t i) const {
  return form_.corrupt.has_value() || !at(i).target_file_name.empty();
}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

absl::StatusOr<at::Tensor> Dataset::LoadImage(int64_t i, int width, int height) const {
  return Load({i, false, width, height});
}

absl::StatusOr<at::Tensor> Dataset::LoadTarget(int64_t i, int width, int height) const {
  return Load({i, true, width, height});
}

void Dataset::LoadAhead(int64_t i, int width, int height, bool with_target) const {
  for (const bool is_target : {false, true}) {
    if (is_target && !with_target) continue;
    const Key key{i, is_target, width, height};
    if (cache_->Has(key)) continue;
    absl::StatusOr<Image> image = Read(key);
    if (image.ok()) cache_->PutAside(key, *std::move(image));
  }
}

bool Dataset::WasRead(int64_t i) const {
  const bool has_file = !listing_.examples.target_file_name(i).empty();
  const uint8_t files = has_file ? kImageFile | kTargetFile : kImageFile;
  return (cache_->FilesRead(i) & files) == files;
}

absl::StatusOr<at::Tensor> Dataset::Load(const Key& key) const {
  if (const Image* kept = cache_->Find(key); kept != nullptr) return ImageToTensor(*kept);
  std::optional<Image> image = cache_->Take(key);
  if (!image) {
    IMAGEDDPO_ASSIGN_OR_RETURN(image, Read(key));
  }
  at::Tensor tensor_CHW = ImageToTensor(*image);
  cache_->Offer(key, *std::move(image));
  return tensor_CHW;
}

absl::StatusOr<Image> Dataset::Read(const Key& key) const {
  const auto [i, is_target, width, height] = key;
  const Example example = at(i);
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot load an image of ", width, "x", height, " pixels"));
  }
  const bool named_target = is_target && !example.target_file_name.empty();
  if (is_target && !HasTarget(i)) {
    return absl::FailedPreconditionError(
        absl::StrCat("example '", example.id,
                     "' has no target; name one as \"target_file_name\" in its line of "
                     "metadata.jsonl, or let `data.corrupt` make the inputs of clean images"));
  }
  absl::StatusOr<Image> image =
      named_target ? ReadImage(example.target_file_name) : ReadExampleImage(listing_.examples, i);
  if (!image.ok()) return Annotate(image.status(), absl::StrCat("example '", example.id, "'"));
  cache_->NoteRead(i, named_target ? kTargetFile : kImageFile);
  Image sized = ResizeTo(*image, width, height, form_.resize);
  if (form_.corrupt && !is_target) {
    IMAGEDDPO_ASSIGN_OR_RETURN(sized, Corrupt(sized, *form_.corrupt, example.id));
  }
  return sized;
}

}  // namespace imageddpo
