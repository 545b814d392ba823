#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/diffusion/ddim_scheduler.h"
#include "common/io/safetensors.h"
#include "tests/gpu_check/models_check.h"
#include "tests/gpu_check/work_folder.h"

namespace imageddpo {
namespace {

constexpr double kBound = 1e-4;

/// RelativeError() over what the recording has as a number (zero terminal SNR takes roots of
/// -1e-7).
double ErrorWhereKnown(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor known = expected.isfinite();
  const at::Tensor ours = found.detach().to(at::kCPU);
  const auto keep = [&known](const at::Tensor& x) {
    return at::where(known, x, at::zeros_like(x));
  };
  return RelativeError(keep(ours), keep(expected));
}

/// All etas of one recorded configuration; the largest error.
absl::StatusOr<double> CheckOne(const std::string& name, const nlohmann::json& fact,
                                const SafetensorsFile& reference, at::Device device) {
  const WorkFolder folder;
  std::ofstream(folder.path() + "/scheduler_config.json") << fact.at("config").dump();
  IMAGEDDPO_ASSIGN_OR_RETURN(const DdimConfig config, LoadDdimConfig(folder.path()));
  const DdimScheduler scheduler(config);
  const at::Tensor timesteps_B =
      at::tensor(fact.at("timesteps").get<std::vector<int64_t>>(), at::kLong);
  const auto num_steps = fact.at("num_steps").get<int64_t>();
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor recorded_output, reference.Get("model_output"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor sample, reference.Get("sample"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor noise, reference.Get("noise"));
  double worst = 0;
  for (const char* eta : {"1.0", "0.5", "0.0"}) {
    const std::string prefix = absl::StrCat(name, ".", eta);
    const at::Tensor output = recorded_output.to(device).clone().requires_grad_();
    const auto sampled = scheduler.Step(output, timesteps_B, sample.to(device), num_steps,
                                        std::stod(eta), noise.to(device), {});
    const auto replayed = scheduler.Step(output, timesteps_B, sample.to(device), num_steps,
                                         std::stod(eta), {}, sampled.prev_sample_BCHW.detach());
    if (replayed.log_prob_B.requires_grad()) replayed.log_prob_B.sum().backward();
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor next, reference.Get(prefix + ".next"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor log_prob, reference.Get(prefix + ".log_prob"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor gradient, reference.Get(prefix + ".gradient"));
    worst = std::max(worst, ErrorWhereKnown(sampled.prev_sample_BCHW, next));
    worst = std::max(worst, ErrorWhereKnown(replayed.log_prob_B, log_prob));
    if (output.grad().defined()) worst = std::max(worst, ErrorWhereKnown(output.grad(), gradient));
  }
  return worst;
}

}  // namespace

std::vector<CheckRow> CheckScheduler(const CheckOptions& options) {
  const std::string folder =
      (std::filesystem::path(options.root) / "tests/data/parity/algorithms").string();
  CheckRow row{.part = "scheduler",
               .name = "steps, log-probabilities and gradients",
               .precision = "fp32",
               .bound = kBound};
  const auto run = [&]() -> absl::Status {
    IMAGEDDPO_ASSIGN_OR_RETURN(const auto reference,
                               SafetensorsFile::Open(folder + "/reference.safetensors"));
    std::ifstream file(folder + "/reference.json");
    const nlohmann::json facts = nlohmann::json::parse(file);
    const at::AutoGradMode with_graph(true);
    for (const auto& [name, fact] : facts.at("schedulers").items()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const double error,
                                 CheckOne(name, fact, *reference, options.device));
      row.error = std::max(row.error, error);
    }
    absl::StrAppend(&row.name, " of ", facts.at("schedulers").size(), " configurations");
    return absl::OkStatus();
  };
  const absl::Status status = run();
  if (!status.ok()) row.failure = status.ToString();
  return {row};
}

}  // namespace imageddpo
