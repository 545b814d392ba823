#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/job_plan.h"
#include "common/model_config/model_count.h"
#include "common/plan/costs.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Bytes that one rank needs, part by part.
struct MemoryUse {
  double weights = 0;  ///< The frozen model, in its precision.
  double lora = 0;     ///< LoRA; on a trainer also its gradients and Adam's moments.
  double activations =
      0;  ///< Of the largest pass: a sampling or decoding batch, or a step's graph.
  double sample_gradients = 0;  ///< Single pass: a gradient for each sample of the rank.
  double trajectories = 0;      ///< Records: under way on a rollout rank, kept on a trainer.
  double shards = 0;            ///< All gradient shards of an update, on a trainer.

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
  double stream = 0;   ///< What a trainer waits for records after the last one was sampled.
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
  int idle_ranks = 0;                        ///< Of those asked for: the job cannot be cut finer.
  MemoryUse rollout_memory, trainer_memory;  ///< Colocated: both are the rank's.
  EpochSeconds seconds;
  double first_pass_encode = 0;  ///< Seconds an epoch that are added until all images were seen.
  double epoch_seconds = 0;
  bool fits = true;       ///< In the memory that was given.
  std::string saturates;  ///< What more ranks would not make faster, in words.

  double images_per_second() const {
    return epoch_seconds > 0 ? static_cast<double>(samples_per_epoch) / epoch_seconds : 0;
  }
};

/// What a prediction takes besides the job.
struct PlanInputs {
  ModelCount model;
  Costs costs;
  int64_t num_images = 0;   ///< Of data.path; 0: not known, taken to fit the cache.
  double memory_bytes = 0;  ///< Of a device; 0: no limit.
};

/// One topology of a job.
/// @param job  defaults filled in, valid; its own topology and `train.update: auto` are resolved
/// for `topology`.
/// @return INVALID_ARGUMENT where the job cannot have that topology.
absl::StatusOr<Prediction> Predict(const v1::JobSpec& job, const Topology& topology,
                                   const PlanInputs& inputs);

/// Every way to use up to `num_ranks` ranks that the job allows, fastest first: what fits the
/// memory before what does not, then fewer ranks before more where they are equally fast (to 1%).
/// @return INVALID_ARGUMENT for num_ranks below 1.
absl::StatusOr<std::vector<Prediction>> PredictAll(const v1::JobSpec& job, int num_ranks,
                                                   const PlanInputs& inputs);

/// The job with its epoch and its updates `factor` times as large: the work of a rank stays what it
/// was when there are as many times more ranks. Updates an epoch stay the same.
v1::JobSpec GrowJob(const v1::JobSpec& job, int64_t factor);

/// The fastest prediction for each number of ranks 1, 2, 5, 10, ... up to `most`.
/// @param grow  the job grows with the ranks (GrowJob), and train.gradient_shards, where the job
/// leaves it to us, is chosen as well.
absl::StatusOr<std::vector<Prediction>> PredictScaling(const v1::JobSpec& job, int most, bool grow,
                                                       const PlanInputs& inputs);

}  // namespace imageddpo
