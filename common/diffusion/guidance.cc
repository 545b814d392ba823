#include "common/diffusion/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>

#include <stdexcept>
#include <string>

#include "common/diffusion/unet.h"

// Shapes: B samples, C channels, H and W of the latents, L tokens, D width of the embeddings,
//         P samples with two branches ("pairs"), S samples with one ("singles"), P + S = B.

namespace imageddpo {
namespace {

void CheckBatch(const char* name, int64_t size, int64_t batch) {
  if (size == batch) return;
  throw std::invalid_argument(std::string("PredictGuided: ") + name + " has batch size " +
                              std::to_string(size) + ", the latents have " + std::to_string(batch));
}

at::Tensor Float(const at::Tensor& tensor) { return tensor.to(at::kFloat); }

/// Deviation over everything but the batch (unbiased), as [B,1,1,1].
at::Tensor Deviation(const at::Tensor& x_BCHW) {
  return x_BCHW.std(at::IntArrayRef({1, 2, 3}), /*unbiased=*/true, /*keepdim=*/true);
}

at::Tensor Combine(const at::Tensor& negative_BCHW, const at::Tensor& prompt_BCHW,
                   const Guidance& guidance) {
  const at::Tensor guided_BCHW = negative_BCHW + guidance.scale * (prompt_BCHW - negative_BCHW);
  if (guidance.rescale <= 0.0) return guided_BCHW;
  const at::Tensor rescaled_BCHW = guided_BCHW * (Deviation(prompt_BCHW) / Deviation(guided_BCHW));
  return guidance.rescale * rescaled_BCHW + (1.0 - guidance.rescale) * guided_BCHW;
}

}  // namespace

at::Tensor PredictGuided(const Denoiser& denoiser, const at::Tensor& latents_BCHW,
                         const at::Tensor& timesteps_B, const at::Tensor& prompt_embeds_BLD,
                         const at::Tensor& negative_embeds_BLD,
                         const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  const int64_t batch = latents_BCHW.size(0);
  CheckBatch("timesteps", timesteps_B.size(0), batch);
  CheckBatch("negative_embeds", negative_embeds_BLD.size(0), batch);
  if (guidance.scale <= 1.0) return Float(denoiser(latents_BCHW, timesteps_B, negative_embeds_BLD));

  CheckBatch("prompt_embeds", prompt_embeds_BLD.size(0), batch);
  CheckBatch("same_tokens", static_cast<int64_t>(same_tokens_B.size()), batch);
  std::vector<int64_t> pairs;
  std::vector<int64_t> singles;
  for (int64_t b = 0; b < batch; ++b) (same_tokens_B[b] ? singles : pairs).push_back(b);
  if (pairs.empty()) return Float(denoiser(latents_BCHW, timesteps_B, negative_embeds_BLD));
  if (singles.empty()) {
    const at::Tensor output_2BCHW =
        Float(denoiser(at::cat({latents_BCHW, latents_BCHW}), at::cat({timesteps_B, timesteps_B}),
                       at::cat({negative_embeds_BLD, prompt_embeds_BLD})));
    return Combine(output_2BCHW.narrow(0, 0, batch), output_2BCHW.narrow(0, batch, batch),
                   guidance);
  }

  // Mixed: the batch is all pairs' negative branches, all pairs' prompt branches, all singles.
  const auto index_options = at::TensorOptions(at::kLong).device(latents_BCHW.device());
  const at::Tensor pairs_P = at::tensor(pairs, index_options);
  const at::Tensor singles_S = at::tensor(singles, index_options);
  const at::Tensor rows = at::cat({pairs_P, pairs_P, singles_S});
  const at::Tensor embeds = at::cat({negative_embeds_BLD.index_select(0, pairs_P),
                                     prompt_embeds_BLD.index_select(0, pairs_P),
                                     negative_embeds_BLD.index_select(0, singles_S)});
  const at::Tensor output = Float(
      denoiser(latents_BCHW.index_select(0, rows), timesteps_B.index_select(0, rows), embeds));
  const int64_t P = pairs_P.size(0);
  const int64_t S = singles_S.size(0);
  const at::Tensor guided_PCHW = Combine(output.narrow(0, 0, P), output.narrow(0, P, P), guidance);
  const at::Tensor ordered = at::cat({guided_PCHW, output.narrow(0, 2 * P, S)});
  // Row i of `ordered` belongs to sample order[i]; the inverse permutation puts samples back.
  const at::Tensor order = at::cat({pairs_P, singles_S});
  return ordered.index_select(0, order.argsort());
}

at::Tensor PredictGuided(const Unet& unet, const at::Tensor& latents_BCHW,
                         const at::Tensor& timesteps_B, const at::Tensor& prompt_embeds_BLD,
                         const at::Tensor& negative_embeds_BLD,
                         const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  const Denoiser denoiser = [&unet](const at::Tensor& latents, const at::Tensor& timesteps,
                                    const at::Tensor& embeds) {
    return unet.Forward(latents, timesteps, embeds);
  };
  return PredictGuided(denoiser, latents_BCHW, timesteps_B, prompt_embeds_BLD, negative_embeds_BLD,
                       same_tokens_B, guidance);
}

int64_t PassesOf(const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  int64_t passes = 0;
  for (bool same : same_tokens_B) passes += guidance.scale > 1.0 && !same ? 2 : 1;
  return passes;
}

}  // namespace imageddpo
