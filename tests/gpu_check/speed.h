#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/model_count.h"
#include "tests/gpu_check/device.h"

namespace imageddpo {

/// What is measured: epochs of one update each, as a colocated job of the service runs them.
struct SpeedOptions {
  std::string model;  ///< Folder in diffusers' layout; the text encoder is not used.
  at::Device device{at::kCPU};
  std::string precision = "fp32";      ///< fp32 or bf16.
  std::string update = "single_pass";  ///< single_pass or replay.
  double guidance_scale = 1.0;
  int64_t resolution = 512;  ///< Pixels each way.
  int64_t num_steps = 50;    ///< Of the full schedule.
  double noise_strength = 0.4;
  int64_t batch_size = 4;         ///< Samples of a micro-batch.
  int64_t samples_per_epoch = 8;  ///< Whole micro-batches.
  double seconds = 10;            ///< Epochs are measured for this long, min_epochs at least.
  int64_t min_epochs = 2;
  bool fused_kernels = false;  ///< As device.fused_kernels; nothing on a CPU.
};

struct SpeedResult {
  ModelCount count;
  int64_t num_steps = 0;     ///< Executed.
  double model_flops = 0;    ///< Of an epoch: what cannot be left out, see EpochWork.
  double product_flops = 0;  ///< Per second, of a plain matrix product on this device.
  double first_epoch_seconds = 0;
  std::vector<double> epoch_seconds;   ///< Sampling, decoding, update.
  std::vector<double> sample_seconds;  ///< Of these: sampling and decoding, noise included.
  double draw_seconds =
      0;  ///< Drawing noise on the CPU, that of steps while a GPU works; the mean epoch's.
  double encode_seconds = 0;            ///< All images, once for all epochs; not part of an epoch.
  double forward_seconds = 0;           ///< The UNet with LoRA on one micro-batch, no gradients.
  double forward_backward_seconds = 0;  ///< The same with the LoRA's gradients.
  DeviceMemory memory;                  ///< Over the measured epochs.
  double predicted_bytes = 0;           ///< PredictedBytes(); 0: no job can have these settings.
  DeviceMemory load_memory;             ///< While the model was loaded and images were encoded.
  double gradient_norm = 0;             ///< Of the last update, before clipping.
  double ratio_max_error = 0;
};

/// Runs an epoch that warms up, then measures. What is run is the service's own: KeyedNormal,
/// SampleTrajectories, LogProbGradients and SinglePassUpdate or ReplayUpdate, ClipAndStep. Images
/// and embeddings are random, advantages are +1 and -1 in turn.
/// @return INVALID_ARGUMENT naming the option; what loading a model returns.
/// @throws c10::OutOfMemoryError, c10::Error
absl::StatusOr<SpeedResult> MeasureSpeed(const SpeedOptions& options);

nlohmann::json ToJson(const SpeedOptions& options, const SpeedResult& result);

/// One epoch of the above several times, with the same noise and the same weights.
struct RepeatResult {
  /// Of each time, as SHA-256: of latents, log-probabilities and images; of the gradient.
  std::vector<std::string> samples, gradients;
  double ratio_max_error = 0;  ///< Of a replay.
};
/// @param trace_file  not empty: one more time, under PyTorch's profiler, see Trace().
/// @return as MeasureSpeed(). @throws as MeasureSpeed()
absl::StatusOr<RepeatResult> RepeatEpoch(const SpeedOptions& options, int64_t times,
                                         const std::string& trace_file);

nlohmann::json ToJson(const RepeatResult& result);

}  // namespace imageddpo
