#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/safetensors.h"
#include "common/nn/model_options.h"

namespace imageddpo {

/// The tensors of one component (UNet, VAE, text encoder) of a model folder. A model has to take
/// every one of them. Reads `<stem>.safetensors`, its fp16 variant, or shards named by an index,
/// whichever exists, in that order.
///
/// Take() does not report errors: it notes them and returns zeros, so that code that builds a model
/// needs no error handling, and Finish() reports all errors at once. Thread-compatible.
class WeightMap {
 public:
  /// @param stem  "diffusion_pytorch_model" (diffusers) or "model" (transformers).
  /// @return NOT_FOUND naming the directory and what it holds instead; INVALID_ARGUMENT naming a
  /// damaged file.
  static absl::StatusOr<WeightMap> Open(const std::string& dir, const std::string& stem,
                                        const ModelOptions& options);

  const ModelOptions& options() const { return options_; }
  bool Contains(const std::string& name) const { return files_by_name_.contains(name); }
  /// True where some tensor's name begins with `prefix`.
  bool ContainsPrefix(const std::string& prefix) const;

  /// A tensor on the options' device, in their dtype, without gradients. On a CPU, if the file has
  /// that dtype, the tensor is the mapped file itself: nothing is copied, pages are read when they
  /// are used, and all processes of a host share them. Its memory alignment is then the same in
  /// every process, on which bit-equal results rest. Do not write to it, and do not change the file
  /// in place meanwhile; replacing the file is safe.
  at::Tensor Take(const std::string& name, at::IntArrayRef shape);
  /// The same for a tensor that files keep in one of several shapes with equal element counts: the
  /// first is returned, the others are accepted.
  at::Tensor TakeAnyShape(const std::string& name, const std::vector<std::vector<int64_t>>& shapes);

  /// Marks a tensor as taken that files have but models do not need.
  void Drop(const std::string& name) { taken_.insert(name); }

  /// OK if every tensor was taken as expected; else INVALID_ARGUMENT naming missing, misshapen and
  /// unused ones (the first few of each, and how many). RESOURCE_EXHAUSTED: there was no memory for
  /// one of them.
  absl::Status Finish() const;

 private:
  WeightMap(std::string dir, ModelOptions options)
      : dir_(std::move(dir)), options_(std::move(options)) {}
  absl::Status AddFile(const std::string& path);
  absl::Status AddIndex(const std::string& path);
  absl::Status NotPlaced(const std::string& name, const c10::Error& error) const;

  std::string dir_;
  ModelOptions options_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> files_by_name_;
  std::string source_;  // The file, or the index, that was read.
  std::set<std::string> taken_;
  std::vector<std::string> missing_;
  std::vector<std::string> misfits_;
  absl::Status not_placed_;  // Of the first tensor that could not be put on the device.
};

}  // namespace imageddpo
