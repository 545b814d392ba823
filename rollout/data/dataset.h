#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/io/image.h"
#include "rollout/data/listing/example.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {

/// What becomes of an image's pixels between its file and the tensor.
struct ImageForm {
  ResizeMode resize = ResizeMode::kCrop;
  std::optional<CorruptSettings> corrupt;  ///< After resizing; the clean image is then the target.
};

struct DatasetOptions : ListingOptions {
  /// Up to this many bytes of decoded and resized images are cached; the rest is read from disk
  /// each time. Nothing is evicted: the order is a new permutation in each pass, so evicting the
  /// oldest would nearly always evict an image before its next use.
  size_t cache_bytes = size_t{1} << 27;
  ImageForm form;
};

/// A set of images (ListExamples() says which there are), loaded one by one. Every method is safe
/// to call from several threads.
class Dataset {
 public:
  /// Lists the set; errors as ListExamples(), and INVALID_ARGUMENT naming every file that is
  /// missing. Images are decoded only by LoadImage().
  static absl::StatusOr<Dataset> Open(const std::string& path, const DatasetOptions& options = {});
  /// A set that was listed, and checked, before. @param listing  with at least one example.
  explicit Dataset(Listing listing, const ImageForm& form = {},
                   size_t cache_bytes = DatasetOptions().cache_bytes);

  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  int64_t size() const { return listing_.examples.size(); }           ///< > 0
  Example at(int64_t i) const { return listing_.examples.at(i); }     ///< @throws std::out_of_range
  const ExampleTable& examples() const { return listing_.examples; }  ///< Stays where it is.
  const std::string& path() const { return listing_.path; }

  /// [3, height, width] float32 in [0, 1] on the CPU, a tensor of the caller's own; brought to that
  /// size, then corrupted, as the set's ImageForm says. The error names the file and the example.
  absl::StatusOr<at::Tensor> LoadImage(int64_t i, int width, int height) const;
  /// Whether image i has a target, the image that it should become: one that its metadata names or,
  /// where images are corrupted, the clean one.
  bool HasTarget(int64_t i) const;
  /// The target, resized, never corrupted; FAILED_PRECONDITION where there is none.
  absl::StatusOr<at::Tensor> LoadTarget(int64_t i, int width, int height) const;

  /// Decodes and resizes an image now, and keeps the pixels, besides the cache, for the next
  /// LoadImage() of it; with_target: LoadTarget() too. Errors are left to those.
  void LoadAhead(int64_t i, int width, int height, bool with_target) const;

  /// Whether the calls above have decoded the image already and, where its metadata names one, its
  /// target: both can be read.
  bool WasRead(int64_t i) const;

 private:
  class Cache;
  using Key = std::tuple<int64_t, bool, int, int>;  ///< Example, whether its target, size.
  absl::StatusOr<at::Tensor> Load(const Key& key) const;
  absl::StatusOr<Image> Read(const Key& key) const;  ///< From its file.

  Listing listing_;
  ImageForm form_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace imageddpo
