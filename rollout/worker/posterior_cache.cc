#include "rollout/worker/posterior_cache.h"

#include <ATen/ops/cat.h>

#include "rollout/sampler/sampler.h"

namespace imageddpo {

Vae::Posterior PosteriorCache::Encode(const Vae& vae, const std::vector<int64_t>& examples,
                                      const at::Tensor& images_BCHW, at::Device device) {
  std::vector<at::Tensor> means, stds;
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto kept = posteriors_.find(examples[i]);
    Vae::Posterior posterior =
        kept != posteriors_.end()
            ? kept->second
            : EncodeImages(vae, images_BCHW.narrow(0, static_cast<int64_t>(i), 1), device);
    means.push_back(posterior.mean_BCHW);
    stds.push_back(posterior.std_BCHW);
    if (kept != posteriors_.end()) continue;
    const size_t size_bytes = posterior.mean_BCHW.nbytes() + posterior.std_BCHW.nbytes();
    if (size_bytes > budget_bytes_ - used_bytes_) continue;
    posteriors_.emplace(examples[i], std::move(posterior));
    used_bytes_ += size_bytes;
  }
  return {.mean_BCHW = at::cat(means), .std_BCHW = at::cat(stds)};
}

}  // namespace imageddpo
