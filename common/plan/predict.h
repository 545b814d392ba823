#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/config/topology.h"
#include "common/model_config/model_count.h"
#include "common/plan/costs.h"

namespace imageddpo {

constexpr double kFloatBytes = 4;

/// Bytes that one rank needs, part by part.
struct MemoryUse {
  double weights = 0;  ///< The frozen model, in its precision.
  double lora = 0;     ///< LoRA; on a trainer also its gradients and Adam's moments.
  double activations =
      0;  ///< Of the largest pass: a sampling or decoding batch, or a step's graph.
  double sample_gradients = 0;  ///< Single pass: a gradient for each sample of the rank.
  double trajectories = 0;      ///< Records: under way on a rollout rank, kept on a trainer.
  double shards = 0;            ///< Gradient shards of an update and their sum, on a trainer.

  double total() const {
    return weights + lora + activations + sample_gradients + trajectories + shards;
  }
};

/// Seconds of one epoch on the slowest rank of a kind. Evaluations and checkpoints are no part of
/// it, as in the service's epoch_seconds.
struct EpochSeconds {
  // Rollout ranks.
  double draw = 0, steps = 0, decode = 0, reward = 0;
  /// VAE encoder: in the first pass over the images only, unless they do not fit the cache.
  double encode = 0;
  // Between them.
  double publish = 0;  ///< A LoRA version to all rollout ranks, with receipts.
  double stream = 0;   ///< How long a trainer waits for records after the last was sampled.
  // Trainer ranks.
  double replay = 0;    ///< Forward and backward; the weighting of gradients in a single pass.
  double proximal = 0;  ///< Log-probabilities of stale samples.
  double exchange = 0;  ///< Gradient shards between trainers, and their sum.
  double optimizer = 0;

  double rollout() const { return draw + encode + steps + decode + reward; }
  double train() const { return replay + proximal + exchange + optimizer; }
};

struct Prediction {
  Topology topology;
  bool single_pass = false;
  int64_t gradient_shards = 0;
  int64_t samples_per_epoch = 0;
  int idle_ranks = 0;                        ///< Ranks that the job cannot use.
  MemoryUse rollout_memory, trainer_memory;  ///< Colocated: both are the rank's.
  EpochSeconds seconds;
  double first_pass_encode = 0;  ///< Added to each epoch until all images have been encoded.
  double epoch_seconds = 0;
  bool fits = true;       ///< In the memory that was given.
  std::string saturates;  ///< For people: what further ranks would not speed up.

  double images_per_second() const {
    return epoch_seconds > 0 ? static_cast<double>(samples_per_epoch) / epoch_seconds : 0;
  }
};

/// Memory of a rank that is not predicted: libraries, buffers of transfers, decoded images.
inline constexpr double kProcessBytes = 0.5e9;

/// What a prediction needs besides the job.
struct PlanInputs {
  ModelCount model;
  Costs costs;
  int64_t num_images = 0;   ///< In data.path; 0: not known, assumed to fit the cache.
  double memory_bytes = 0;  ///< Of a device; 0: no limit.
};

/// Predicts one topology of a job.
/// @param job  its own topology is not used, and `train.update: auto` is resolved for `topology`
///             and the memory; see CloseUpdate().
/// @return INVALID_ARGUMENT if the job cannot have that topology.
absl::StatusOr<Prediction> Predict(const ResolvedJob& job, const Topology& topology,
                                   const PlanInputs& inputs);

/// Predicts every way to run the job on up to `num_ranks` ranks. With `topology: auto`, all of them
/// have the update that the job has with it, so that all have the same result. Sorted: those that
/// fit the memory first, then by speed; of equally fast ones (to 1%) those with fewer ranks first.
/// @return INVALID_ARGUMENT if num_ranks is below 1.
absl::StatusOr<std::vector<Prediction>> PredictAll(const ResolvedJob& job, int num_ranks,
                                                   const PlanInputs& inputs);

/// The job with its epoch and its updates `factor` times as large, so that with `factor` times as
/// many ranks each rank has the same work. The number of updates per epoch stays the same.
absl::StatusOr<ResolvedJob> GrowJob(const ResolvedJob& job, int64_t factor);

/// The fastest prediction for each number of ranks 1, 2, 5, 10, ... up to `most`.
/// @param grow  the job grows with the ranks (GrowJob); train.gradient_shards is then chosen too,
///              unless the job sets it.
absl::StatusOr<std::vector<Prediction>> PredictScaling(const ResolvedJob& job, int most, bool grow,
                                                       const PlanInputs& inputs);

}  // namespace imageddpo
