#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/config/topology.h"
#include "common/model_config/model_count.h"
#include "common/plan/predict.h"

namespace imageddpo {

/// What a job runs on, and why.
struct TopologyChoice {
  Topology topology;
  bool fits = true;  ///< In PlanInputs::memory_bytes, where that is known.
  /// A sentence for people: the predicted seconds of an epoch, and the next best. Empty where the
  /// job names its topology.
  std::string why;
};

/// The one place where `topology: auto` is decided: the first of PredictAll(), which is the fastest
/// of those that fit the memory. A job without epochs takes one rank. A topology that the job names
/// is taken, see NamedTopology(). No result depends on it: all have the same update.
/// Ranks that differ are taken to be as the slowest of them, which the others wait for.
/// @param num_ranks  that the job may have.
/// @param inputs     of the service: NominalInputs(), so that nothing has to be measured.
/// @return FAILED_PRECONDITION naming the pool's size where the job does not fit it.
absl::StatusOr<TopologyChoice> ChooseTopology(const ResolvedJob& job, int num_ranks,
                                              const PlanInputs& inputs);

/// TopologyChoice::why of a topology.
/// @param predictions  as PredictAll() returned them; the chosen one is among them.
std::string WhyChosen(const Topology& chosen, const std::vector<Prediction>& predictions);

/// Closes `train.update: auto`: a job that could take a single pass (ResolvedJob) takes a replay
/// where the gradients of a rank's samples would take more than a quarter of its memory, or more
/// than 2 GB where that is not known. Depends on the LoRA that is trained, the topology that the
/// job names and the memory; not on the size of the pool.
/// @param model         not set: 0.8 MB of gradients are taken for each sample and unit of
///                      `lora.rank`, as of Stable Diffusion 1.5 with LoRAs on attention.
/// @param memory_bytes  of a rank; 0: not known.
/// @return the job with `train.update` set. An update that the job names stays.
absl::StatusOr<ResolvedJob> CloseUpdate(const ResolvedJob& job,
                                        const std::optional<ModelCount>& model,
                                        double memory_bytes);

}  // namespace imageddpo
