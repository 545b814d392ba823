#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// Which prompts the B samples of a batch were conditioned on. Embeddings are found by these
/// hashes.
struct PromptKeys {
  std::vector<uint64_t> prompt_hashes;  ///< [B]: of the prompt's tokens, see HashTokens().
  uint64_t negative_hash = 0;           ///< Of the negative prompt's tokens, the same for all.
  std::vector<bool> same_tokens;        ///< [B]: prompt and negative prompt have equal tokens.
};

/// A picture to be stored, encoded as PNG.
struct NamedPicture {
  std::string name;
  std::string png;
};

/// The record that crosses from rollout to trainer: the trajectories of one micro-batch, with
/// everything that the update needs to replay them.
///
/// Shapes: B samples of the micro-batch, K trained steps, C h w latent channels, height, width, P
/// reward parts, L tokens, D embedding width. All tensors are contiguous. They are on the CPU,
/// except that latents and means are where the gang's tensors travel from and arrive
/// (Communicator::transfer_device()), and those that are not sent on the device that made them.
struct TrajectoryBatch {
  std::string job_id;
  int64_t epoch = 0;
  int64_t micro_batch = 0;     ///< Index in the epoch.
  int64_t first_sample = 0;    ///< Index of the first sample in the epoch.
  int64_t weight_version = 0;  ///< LoRA version that sampled it.

  std::vector<std::string> image_ids;  ///< [B]: stable ids, used as keys of reward statistics.
  std::vector<std::string> prompts;    ///< [B]
  PromptKeys keys;

  /// [B, N, C, h, w] float32: the latents before and after each step; where steps follow each
  /// other, N is K+1. Undefined where the receiver needs only the rewards.
  /// With `train.objective: sft` K is 1, and the two are a noised target image and what the
  /// denoiser should predict from it; there are no rewards.
  at::Tensor latents;
  /// [K]: index of the latents before a step; the next are those after it. Empty: 0, 1, ….
  std::vector<int64_t> latent_of_step;
  /// [B, K, C, h, w] float32, where latents are and the job's loss needs them
  /// (ResolvedJob::trust_region()): the mean of each step under weight_version, and under the base
  /// model, without a LoRA.
  at::Tensor means, base_means;
  at::Tensor timesteps_BK;  ///< int64
  at::Tensor log_probs_BK;  ///< float32, under weight_version; 0 at deterministic steps.
  at::Tensor rewards_B;     ///< float64: the weighted sum; NaN of a sample that is left out.
  std::vector<std::string> part_names;  ///< [P]
  at::Tensor parts_BP;                  ///< float64
  /// By reward: why the first of the samples that it has left out has no value; names the image.
  std::map<std::string, std::string> why_dropped;

  /// [L,D] by hash: embeddings that no earlier record of the epoch has brought the receiver.
  std::map<uint64_t, at::Tensor> new_embeddings;

  std::vector<NamedPicture> pictures;
  double sample_seconds = 0;
  double reward_seconds = 0;
  double wait_seconds = 0;  ///< Since the rank's last record, spent waiting for weights and for
                            ///< trainers to receive records.

  int64_t batch_size() const { return static_cast<int64_t>(image_ids.size()); }
};

/// FNV-1a over the token ids. Identifies a prompt by what the text encoder sees.
uint64_t HashTokens(const std::vector<int64_t>& token_ids);

}  // namespace imageddpo
