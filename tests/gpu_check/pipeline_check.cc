#include "tests/gpu_check/pipeline_check.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/safetensors.h"
#include "tests/gpu_check/work_folder.h"
#include "tests/testing/pipeline_case.h"

namespace imageddpo {
namespace {

constexpr double kGradientBound = 1e-3;
constexpr double kSinglePassBound = 1e-5;
/// Of |ratio - 1| before an update: a tenth of the clip range, above which a job has a warning.
constexpr double kRatioBound = 1e-5;

using File = std::shared_ptr<const SafetensorsFile>;

/// All gradients of an update file as one vector.
absl::StatusOr<at::Tensor> Gradients(const SafetensorsFile& file, const SafetensorsFile& names) {
  std::vector<at::Tensor> gradients;
  for (const std::string& name : names.names()) {
    if (!absl::StartsWith(name, "grad.")) continue;
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor gradient, file.Get(name));
    gradients.push_back(gradient.flatten());
  }
  return at::cat(gradients);
}

class PipelineCheck {
 public:
  PipelineCheck(const std::string& name, const CheckOptions& options)
      : name_(name), options_(options), case_(options.root, name, work_.path()) {}

  std::vector<CheckRow> Run() {
    for (const auto check :
         {&PipelineCheck::CheckRollout, &PipelineCheck::CheckUpdate, &PipelineCheck::CheckReplay}) {
      const absl::Status status = (this->*check)();
      if (!status.ok()) {
        Add("pipeline", "", 0, 0);
        rows_.back().failure = status.ToString();
        break;
      }
    }
    return std::move(rows_);
  }

 private:
  void Add(const std::string& part, const std::string& what, double error, double bound) {
    rows_.push_back({.part = part,
                     .name = absl::StrCat(name_, what.empty() ? "" : " ", what),
                     .precision = options_.precision(),
                     .error = error,
                     .bound = bound});
  }

  void OnDevice(TracePolicyOptions* policy) const {
    policy->device = options_.device.is_cpu() ? "cpu" : "cuda";
    policy->precision = options_.precision();
  }

  absl::Status Compare(const std::string& part, const SafetensorsFile& ours,
                       const SafetensorsFile& theirs, const std::string& name, double bound) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor found, ours.Get(name));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor expected, theirs.Get(name));
    Add(part, name, RelativeError(found, expected), bound);
    return absl::OkStatus();
  }

  absl::Status CheckRollout() {
    TraceRolloutOptions rollout = case_.Rollout();
    OnDevice(&rollout.policy);
    IMAGEDDPO_RETURN_IF_ERROR(TraceRollout(rollout));
    IMAGEDDPO_ASSIGN_OR_RETURN(const File ours, SafetensorsFile::Open(rollout.output));
    IMAGEDDPO_ASSIGN_OR_RETURN(const File theirs,
                               SafetensorsFile::Open(case_.File("trajectory.safetensors")));
    const double bound = options_.bf16() ? kBfloat16Bound : kFloatBound;
    for (const char* name : {"prompt_embeds", "next_latents", "log_probs", "images"}) {
      IMAGEDDPO_RETURN_IF_ERROR(Compare("rollout", *ours, *theirs, name, bound));
    }
    return absl::OkStatus();
  }

  absl::Status CheckUpdate() {
    if (options_.bf16() || !case_.has_update()) return absl::OkStatus();
    TraceUpdateOptions update = case_.Update();
    OnDevice(&update.policy);
    IMAGEDDPO_RETURN_IF_ERROR(TraceUpdate(update));
    IMAGEDDPO_ASSIGN_OR_RETURN(const File ours, SafetensorsFile::Open(update.output));
    IMAGEDDPO_ASSIGN_OR_RETURN(const File theirs,
                               SafetensorsFile::Open(case_.File("update.safetensors")));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor found, Gradients(*ours, *theirs));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor expected, Gradients(*theirs, *theirs));
    Add("update", "gradients", RelativeError(found, expected), kGradientBound);

    IMAGEDDPO_ASSIGN_OR_RETURN(const File lora, SafetensorsFile::Open(update.output_lora));
    IMAGEDDPO_ASSIGN_OR_RETURN(const File expected_lora,
                               SafetensorsFile::Open(case_.File("lora-after.safetensors")));
    double worst = 0;
    for (const std::string& name : expected_lora->names()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor a, lora->Get(name));
      IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor b, expected_lora->Get(name));
      worst = std::max(worst, RelativeError(a, b));
    }
    Add("update", "LoRA after it", worst, kGradientBound);
    return absl::OkStatus();
  }

  /// One update of our own rollout, whole.
  absl::StatusOr<File> ReplayOwn(const std::string& kind) {
    TraceUpdateOptions update = case_.Update();
    OnDevice(&update.policy);
    update.trajectory = case_.Rollout().output;
    update.output = case_.Output(kind + ".safetensors");
    update.output_lora = case_.Output("own-lora.safetensors");
    update.train_batch_size = 4;  // The rollout's micro-batch.
    update.gradient_accumulation_steps = 1;
    update.num_inner_epochs = 1;
    update.clip_range = 1e-1;  // Nothing is clipped, so that both have the whole gradient.
    update.update = kind;
    IMAGEDDPO_RETURN_IF_ERROR(TraceUpdate(update));
    return SafetensorsFile::Open(update.output);
  }

  absl::Status CheckReplay() {
    IMAGEDDPO_ASSIGN_OR_RETURN(const File replay, ReplayOwn("replay"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor losses, replay->Get("losses"));
    const double approx_kl = losses.select(1, 1).max().item<double>();  // Mean of d²/2.
    Add("update", "ratio of our own rollout", std::sqrt(2 * std::max(approx_kl, 0.0)), kRatioBound);
    IMAGEDDPO_ASSIGN_OR_RETURN(const File single, ReplayOwn("single_pass"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor replayed, Gradients(*replay, *replay));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor collected, Gradients(*single, *replay));
    // They round differently: the gradients of the two branches of the guidance all but cancel, and
    // what is left of them is multiplied.
    const double scale = std::max(1.0, case_.Update().policy.guidance_scale);
    Add("update", "single pass against replay", RelativeError(collected, replayed),
        scale * (options_.bf16() ? kBfloat16Bound : kSinglePassBound));
    return absl::OkStatus();
  }

  std::string name_;
  const CheckOptions& options_;
  WorkFolder work_;
  PipelineCase case_;
  std::vector<CheckRow> rows_;
};

}  // namespace

std::vector<CheckRow> CheckPipelines(const CheckOptions& options) {
  std::vector<CheckRow> rows;
  for (const std::string& name : PipelineCase::Names(options.root)) {
    const std::vector<CheckRow> more = PipelineCheck(name, options).Run();
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

}  // namespace imageddpo
