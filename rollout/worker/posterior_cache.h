#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/sd/vae.h"

namespace imageddpo {

/// What the VAE makes of each image of one data set, kept so that it is encoded once. The noise of
/// the latent is drawn anew each time. What is returned does not depend on what is kept, bit for
/// bit, since each image is encoded by itself. Thread-compatible.
class PosteriorCache {
 public:
  /// @param num_images    of the data set that will be asked for.
  /// @param budget_bytes  the rest is encoded each time. Nothing is thrown out: the order is a new
  ///                      permutation each pass, where throwing out the oldest would miss nearly
  ///                      always.
  PosteriorCache(size_t num_images, size_t budget_bytes)
      : num_images_(num_images), budget_bytes_(budget_bytes) {}

  /// @param examples     B indices into the data set. @param images_BCHW  [B,3,H,W] in [0,1].
  /// @return             [B,C,h,w] each, on `device`.
  Vae::Posterior Encode(const Vae& vae, const std::vector<int64_t>& examples,
                        const at::Tensor& images_BCHW, at::Device device);

  /// True once every image is kept: then no encoder is needed.
  bool complete() const { return posteriors_.size() == num_images_; }

 private:
  size_t num_images_;
  size_t budget_bytes_;
  size_t used_bytes_ = 0;
  std::map<int64_t, Vae::Posterior> posteriors_;  ///< [1,C,h,w] each, on the device.
};

}  // namespace imageddpo
