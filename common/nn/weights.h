#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/safetensors.h"
#include "common/nn/model_options.h"

namespace imageddpo {

/// The tensors of one component (UNet, VAE, text encoder) of a model folder, of which every one
/// must be taken. Reads
/// `<stem>.safetensors`, its fp16 variant, or shards named by an index, whichever is there, in that
/// order.
///
/// Take() never fails on the spot: it notes the error and returns zeros, so that a model is built
/// in one straight line and Finish() can report all that is wrong at once.
class WeightMap {
 public:
  /// @param stem  "diffusion_pytorch_model" (diffusers) or "model" (transformers).
  /// @return NOT_FOUND naming the directory and what it holds instead; INVALID_ARGUMENT naming a
  /// damaged file.
  static absl::StatusOr<WeightMap> Open(const std::string& dir, const std::string& stem,
                                        const ModelOptions& options);

  bool Contains(const std::string& name) const { return files_by_name_.contains(name); }
  /// True where some tensor's name begins with `prefix`.
  bool ContainsPrefix(const std::string& prefix) const;

  /// On the options' device, in their dtype, without gradients. On a CPU, where the file has that
  /// dtype, it is the mapped file itself: nothing is copied, pages are read as they are used, and
  /// all processes of a host that map the file share them. It lies alike in every process, which
  /// bit-equal results rest on. The file must not be changed in place meanwhile; one that is
  /// replaced lives on. Do not write to it.
  at::Tensor Take(const std::string& name, at::IntArrayRef shape);
  /// The same for a tensor that files keep in one of several shapes with equal element counts: the
  /// first is returned, the others are accepted.
  at::Tensor TakeAnyShape(const std::string& name, const std::vector<std::vector<int64_t>>& shapes);

  /// Tensors that files have and models do not need; leaves them out of Finish()'s account.
  void Drop(const std::string& name) { taken_.insert(name); }

  /// OK where every tensor was taken as expected; else INVALID_ARGUMENT naming missing, misshapen
  /// and left-over ones (the first few of each, and how many).
  absl::Status Finish() const;

 private:
  WeightMap(std::string dir, ModelOptions options) : dir_(std::move(dir)), options_(options) {}
  absl::Status AddFile(const std::string& path);
  absl::Status AddIndex(const std::string& path);

  std::string dir_;
  ModelOptions options_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> files_by_name_;
  std::string source_;  // The file, or the index, that was read.
  std::set<std::string> taken_;
  std::vector<std::string> missing_;
  std::vector<std::string> misfits_;
};

}  // namespace imageddpo
