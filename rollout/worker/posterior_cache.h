#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/sd/vae.h"

namespace imageddpo {

/// The VAE posteriors of the images of one data set, cached so that each image is encoded once. The
/// noise of a latent is drawn each time. Each image is encoded by itself, so a cached result has
/// the bits of a new one. Thread-compatible.
class PosteriorCache {
 public:
  /// @param num_images    of the data set that will be asked for.
  /// @param budget_bytes  size of the cache; the rest is encoded each time. Nothing is evicted,
  ///                      because the order is a new permutation in each pass.
  PosteriorCache(size_t num_images, size_t budget_bytes)
      : num_images_(num_images), budget_bytes_(budget_bytes) {}

  /// @param examples     B indices into the data set. @param images_BCHW  [B,3,H,W] in [0,1].
  /// @return             [B,C,h,w] each, on `device`.
  Vae::Posterior Encode(const Vae& vae, const std::vector<int64_t>& examples,
                        const at::Tensor& images_BCHW, at::Device device);

  /// Whether every image is cached, so that the encoder is not needed any more.
  bool complete() const { return posteriors_.size() == num_images_; }

 private:
  size_t num_images_;
  size_t budget_bytes_;
  size_t used_bytes_ = 0;
  std::map<int64_t, Vae::Posterior> posteriors_;  ///< [1,C,h,w] each, on the device.
};

}  // namespace imageddpo
