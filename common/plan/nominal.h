#pragma once

#include <optional>

#include "common/model_config/model_count.h"
#include "common/plan/predict.h"

namespace imageddpo {

/// Inputs of a prediction without a measurement: the counts of the model at the nominal speed of a
/// device, so that the same job has the same prediction on every machine of a kind. The ratio of
/// the stages to each other and to the link is what they are good for; their seconds are not those
/// of any machine.
/// @param model         not set: Stable Diffusion 1.5 at 512 pixels is taken, and no memory.
/// @param on_gpus       a rank has a GPU; else a few cores of a CPU.
/// @param memory_bytes  of a rank; 0: not known.
PlanInputs NominalInputs(const std::optional<ModelCount>& model, bool on_gpus, double memory_bytes);

}  // namespace imageddpo
