#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace imageddpo {

struct Example {
  std::string id;                ///< Unique in the dataset and stable: statistics are kept by it.
  std::string file_name;         ///< Absolute path, links resolved.
  std::string target_file_name;  ///< As file_name: what the image is to become; may be empty.
  std::string text;              ///< The prompt; may be empty.
  std::optional<int64_t> label;  ///< Class index, for rewards that need one.
  nlohmann::json metadata;       ///< The line's other keys, an object.
};

struct DatasetOptions {
  /// Up to this many bytes of decoded and resized images are cached; the rest is read from disk
  /// each time. Nothing is evicted: the order is a new permutation in each pass, so evicting the
  /// oldest would nearly always evict an image before its next use.
  size_t cache_bytes = size_t{1} << 30;
  /// Where files may lie once links are resolved. Empty: only in the dataset's own folder.
  std::vector<std::string> allowed_roots;
};

/// A folder of PNG and JPEG images, described by its metadata.jsonl: one JSON object a line with
/// `file_name` (required, relative to the folder), `target_file_name`, `text` (default ""), `label`
/// (integer), `id` (string or integer, default file_name, unique); null means absent. Without a
/// metadata.jsonl: every .png, .jpg and .jpeg in the folder itself, sorted by bytes; the id is the
/// file's name. A file's name is shown as ValidText() and found by it (PathOf()). at() and
/// LoadImage() are safe to call from several threads.
class Dataset {
 public:
  /// NOT_FOUND: no such folder. INVALID_ARGUMENT: empty, or a bad line (named as file:line). Every
  /// file is known to exist afterwards, but is decoded only by LoadImage().
  static absl::StatusOr<Dataset> Open(const std::string& dir, const DatasetOptions& options = {});

  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  int64_t size() const { return static_cast<int64_t>(examples_.size()); }  ///< > 0
  const Example& at(int64_t i) const;  ///< @throws std::out_of_range
  const std::string& path() const { return path_; }

  /// [3, height, width] float32 in [0, 1] on the CPU, a tensor of the caller's own; scaled and
  /// centre-cropped (bicubic) where the file's size differs. The error names the file and the
  /// example.
  absl::StatusOr<at::Tensor> LoadImage(int64_t i, int width, int height) const;
  /// The same of the example's target; NOT_FOUND where it has none.
  absl::StatusOr<at::Tensor> LoadTarget(int64_t i, int width, int height) const;

 private:
  class Cache;
  Dataset(std::string path, std::vector<Example> examples, size_t cache_bytes);
  absl::StatusOr<at::Tensor> Load(int64_t i, bool is_target, int width, int height) const;

  std::string path_;
  std::vector<Example> examples_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace imageddpo
