#include "common/diffusion/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>

#include <stdexcept>
#include <string>

#include "common/device/copies.h"

// Shapes: B samples, C channels, H and W of the latents, L tokens, D width of the embeddings,
//         P samples with two branches ("pairs"), S samples with one ("singles"), P + S = B.

namespace imageddpo {
namespace {

void CheckBatch(const char* name, int64_t size, int64_t batch) {
  if (size == batch) return;
  throw std::invalid_argument(std::string("guidance: ") + name + " has batch size " +
                              std::to_string(size) + ", expected " + std::to_string(batch));
}

/// Samples with two branches and with one.
struct Split {
  std::vector<int64_t> pairs, singles;
};

Split SplitBatch(int64_t batch, const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  Split split;
  if (guidance.scale > 1.0) {
    CheckBatch("same_tokens", static_cast<int64_t>(same_tokens_B.size()), batch);
  }
  for (int64_t b = 0; b < batch; ++b) {
    (guidance.scale > 1.0 && !same_tokens_B[b] ? split.pairs : split.singles).push_back(b);
  }
  return split;
}

at::Tensor Indices(const std::vector<int64_t>& indices, const at::Tensor& like) {
  return MoveTo(at::tensor(indices, at::kLong), like.device());
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

at::Tensor EmbedRows(const at::Tensor& prompt_embeds_BLD, const at::Tensor& negative_embeds_BLD,
                     const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  const int64_t batch = negative_embeds_BLD.size(0);
  const Split split = SplitBatch(batch, same_tokens_B, guidance);
  if (split.pairs.empty()) return negative_embeds_BLD;
  CheckBatch("prompt_embeds", prompt_embeds_BLD.size(0), batch);
  if (split.singles.empty()) return at::cat({negative_embeds_BLD, prompt_embeds_BLD});
  const at::Tensor pairs_P = Indices(split.pairs, negative_embeds_BLD);
  const at::Tensor singles_S = Indices(split.singles, negative_embeds_BLD);
  return at::cat({negative_embeds_BLD.index_select(0, pairs_P),
                  prompt_embeds_BLD.index_select(0, pairs_P),
                  negative_embeds_BLD.index_select(0, singles_S)});
}

at::Tensor PredictGuided(const RowPredictor& predict, const at::Tensor& latents_BCHW,
                         const at::Tensor& timesteps_B, const std::vector<bool>& same_tokens_B,
                         const Guidance& guidance) {
  const int64_t batch = latents_BCHW.size(0);
  CheckBatch("timesteps", timesteps_B.size(0), batch);
  const Split split = SplitBatch(batch, same_tokens_B, guidance);
  if (split.pairs.empty()) return Float(predict(latents_BCHW, timesteps_B));
  if (split.singles.empty()) {
    const at::Tensor output_2BCHW =
        Float(predict(at::cat({latents_BCHW, latents_BCHW}), at::cat({timesteps_B, timesteps_B})));
    return Combine(output_2BCHW.narrow(0, 0, batch), output_2BCHW.narrow(0, batch, batch),
                   guidance);
  }

  // Mixed: the batch is all pairs' negative branches, all pairs' prompt branches, all singles.
  const at::Tensor rows = Indices(RowSamples(batch, same_tokens_B, guidance), latents_BCHW);
  const at::Tensor output =
      Float(predict(latents_BCHW.index_select(0, rows), timesteps_B.index_select(0, rows)));
  const auto P = static_cast<int64_t>(split.pairs.size());
  const auto S = static_cast<int64_t>(split.singles.size());
  const at::Tensor guided_PCHW = Combine(output.narrow(0, 0, P), output.narrow(0, P, P), guidance);
  const at::Tensor ordered = at::cat({guided_PCHW, output.narrow(0, 2 * P, S)});
  // Row i of `ordered` belongs to sample order[i]; the inverse permutation puts samples back.
  std::vector<int64_t> order = split.pairs;
  order.insert(order.end(), split.singles.begin(), split.singles.end());
  return ordered.index_select(0, Indices(order, latents_BCHW).argsort());
}

std::vector<int64_t> RowSamples(int64_t batch, const std::vector<bool>& same_tokens_B,
                                const Guidance& guidance) {
  const Split split = SplitBatch(batch, same_tokens_B, guidance);
  std::vector<int64_t> rows = split.pairs;
  rows.insert(rows.end(), split.pairs.begin(), split.pairs.end());
  rows.insert(rows.end(), split.singles.begin(), split.singles.end());
  return rows;
}

int64_t PassesOf(const std::vector<bool>& same_tokens_B, const Guidance& guidance) {
  int64_t passes = 0;
  for (bool same : same_tokens_B) passes += guidance.scale > 1.0 && !same ? 2 : 1;
  return passes;
}

}  // namespace imageddpo
