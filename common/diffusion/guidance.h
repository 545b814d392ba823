#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace imageddpo {

/// Settings of classifier-free guidance.
struct Guidance {
  double scale = 1.0;    ///< At most 1: the negative embedding alone, in one pass. Above 1:
                         ///< classifier-free guidance.
  double rescale = 0.0;  ///< Pulls the guided output's standard deviation back to the prompt
                         ///< branch's; 0 is off, in [0, 1].
};

/// The denoiser, already given the text embeddings of EmbedRows(): (latents_RCHW, timesteps_R) to
/// its output_RCHW.
using RowPredictor =
    std::function<at::Tensor(const at::Tensor& latents_RCHW, const at::Tensor& timesteps_R)>;

/// The embeddings of the denoiser's rows: B to 2B of them, see PredictGuided.
/// @param prompt_embeds_BLD    float32; may be undefined when scale <= 1.
/// @param negative_embeds_BLD  float32.
/// @param same_tokens_B        B entries; unused when scale <= 1.
/// @throws std::invalid_argument  batch sizes that differ.
at::Tensor EmbedRows(const at::Tensor& prompt_embeds_BLD, const at::Tensor& negative_embeds_BLD,
                     const std::vector<bool>& same_tokens_B, const Guidance& guidance);

/// The guided prediction. Rollout and update both call this and nothing else, so that a replay
/// repeats the rollout.
///
/// scale <= 1: one pass with the negative embeddings only; prompts are unused.
/// scale > 1:  negative + scale·(prompt - negative) (Ho and Salimans, arXiv:2207.12598), then the
///             rescale of Lin et al. (arXiv:2305.08891, section 3.4). The branches go through the
///             denoiser as one batch: all negative, then all prompt. A sample whose prompt and
///             negative prompt have equal tokens takes one pass (its two branches would be equal);
///             it follows the others in the same batch.
/// The output of a sample depends, in its last bits, on the batch it is computed in: use the same
/// micro-batches in rollout and update.
/// @param latents_BCHW        float32.
/// @param timesteps_B         int64.
/// @param same_tokens_B       B entries; unused when scale <= 1.
/// @return  float32 [B,C,H,W] (half-precision outputs are widened before they are combined).
/// @throws std::invalid_argument  batch sizes that differ.
at::Tensor PredictGuided(const RowPredictor& predict, const at::Tensor& latents_BCHW,
                         const at::Tensor& timesteps_B, const std::vector<bool>& same_tokens_B,
                         const Guidance& guidance);

/// The sample that each row of the denoiser's batch belongs to, in the order of the rows: B to 2B
/// entries.
std::vector<int64_t> RowSamples(int64_t batch, const std::vector<bool>& same_tokens_B,
                                const Guidance& guidance);

/// Passes through the denoiser that a micro-batch costs: B, 2B or between.
int64_t PassesOf(const std::vector<bool>& same_tokens_B, const Guidance& guidance);

}  // namespace imageddpo
