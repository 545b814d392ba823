#include "deploy/trace/trace_files.h"

#include <ATen/Context.h>
#include <ATen/ops/isfinite.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/kernels/threads.h"

namespace imageddpo {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[",
                      absl::StrJoin(shape, ",",
                                    [](std::string* out, int64_t size) {
                                      absl::StrAppend(out, size < 0 ? "any" : std::to_string(size));
                                    }),
                      "]");
}

}  // namespace

absl::StatusOr<at::Tensor> GetTensor(const SafetensorsFile& file, const std::string& name,
                                     at::ScalarType dtype, const std::vector<int64_t>& shape) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor tensor, file.Get(name));
  const auto malformed = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor ", name, " ", what));
  };
  if (tensor.scalar_type() != dtype) {
    return malformed(absl::StrCat("is ", c10::toString(tensor.scalar_type()), ", expected ",
                                  c10::toString(dtype)));
  }
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] < 0 || tensor.size(static_cast<int64_t>(i)) == shape[i];
  }
  if (!fits) {
    return malformed(
        absl::StrCat("is ", ShapeText(tensor.sizes().vec()), ", expected ", ShapeText(shape)));
  }
  if (tensor.numel() == 0) return malformed("is empty");
  if (tensor.is_floating_point() && !at::isfinite(tensor).all().item<bool>()) {
    return malformed("has values that are not finite");
  }
  return tensor;
}

absl::StatusOr<ModelOptions> MakeModelOptions(const TracePolicyOptions& policy) {
  constexpr int64_t kMaxThreads = 1024;
  ModelOptions options;
  if (policy.precision == "bf16") {
    options.dtype = at::kBFloat16;
  } else if (policy.precision != "fp32") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision is ", policy.precision, ", it must be fp32 or bf16"));
  }
  if (policy.device == "cuda") {
    if (!at::globalContext().hasCUDA()) {
      return absl::FailedPreconditionError(
          "--device is cuda, but this program finds no GPU: use the CUDA configuration on a "
          "machine "
          "with one, or --device cpu");
    }
    options.device = at::Device(at::kCUDA, 0);
  } else if (policy.device != "cpu") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device is ", policy.device, ", it must be cpu or cuda"));
  }
  if (policy.num_threads < 1 || policy.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("--num-threads is ", policy.num_threads,
                                                   ", it must be from 1 to ", kMaxThreads));
  }
  UseThreads(policy.num_threads);
  return options;
}

PolicyOptions MakePolicyOptions(const TracePolicyOptions& options, int64_t first_timestep) {
  return {.num_steps = options.num_steps,
          .guidance = {.scale = options.guidance_scale, .rescale = options.guidance_rescale},
          .eta = options.eta,
          .first_timestep = first_timestep};
}

}  // namespace imageddpo
