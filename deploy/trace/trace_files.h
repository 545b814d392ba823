#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/diffusion/policy.h"
#include "common/io/safetensors.h"
#include "common/nn/model_options.h"
#include "deploy/trace/trace.h"

namespace imageddpo {

/// A tensor of a trace file, checked. `shape` has one entry per dimension: a size, or -1 for any.
/// INVALID_ARGUMENT or NOT_FOUND naming file, tensor, and what was expected; also for values that
/// are not finite.
absl::StatusOr<at::Tensor> GetTensor(const SafetensorsFile& file, const std::string& name,
                                     at::ScalarType dtype, const std::vector<int64_t>& shape);

/// Sets the process's intra-op threads, too. FAILED_PRECONDITION: there is no such device.
absl::StatusOr<ModelOptions> MakeModelOptions(const TracePolicyOptions& policy);

PolicyOptions MakePolicyOptions(const TracePolicyOptions& options, int64_t first_timestep);

}  // namespace imageddpo
