#include "deploy/imageddpo/commands/evaluation.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/config/reward_types.h"
#include "deploy/imageddpo/client/download.h"
#include "deploy/imageddpo/client/submit_job.h"
#include "deploy/imageddpo/client/watch_job.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {
namespace {

constexpr int64_t kSampledTogether = 8;
constexpr size_t kMostOfName = 50;  ///< Of the 64 characters that a name may have.
constexpr char kAverageName[] = "lora_ema.safetensors";  ///< In a checkpoint, see docs/formats.md.

/// Whether the reward is the plain distance, neither scaled nor cut.
bool IsPlainDistance(const v1::RewardSpec& reward, std::string_view type,
                     std::string_view reference) {
  return reward.type() == type &&
         (reward.has_reference() ? reward.reference() : "input") == reference &&
         reward.offset() == 0 && (!reward.has_scale() || reward.scale() == 1) &&
         reward.clamp() == 0;
}

/// Waits for one job and takes its evaluation.
ExitCode WaitForEvaluation(Client& client, const std::string& id, bool shows_progress,
                           Evaluated* result) {
  SystemClock clock;
  std::ostringstream unseen;
  std::ostream& out = shows_progress ? std::cerr : static_cast<std::ostream&>(unseen);
  ExitCode code = ExitCode::kOk;
  {
    Screen screen(out, shows_progress && isatty(STDERR_FILENO) == 1);
    code = WatchUntilEnd(client, screen, clock, id, {});
  }
  if (code == ExitCode::kInterrupted && !shows_progress) {
    std::cerr << "Stopped waiting; the job goes on. To watch it: imageddpo watch " << id << "\n";
  }
  if (code != ExitCode::kOk) return code;
  absl::StatusOr<v1::Job> job = client.GetJob(id);
  if (!job.ok()) return Report(job.status());
  result->job = *std::move(job);
  const absl::Status status = client.WatchJob(id, 1, [&](const v1::JobEvent& event) {
    if (event.has_eval()) result->eval = event.eval();
  });
  if (!status.ok()) return Report(status);
  if (result->eval.num_images() > 0) return ExitCode::kOk;
  return Report(absl::InternalError(absl::StrCat(id, " has ended without an evaluation")));
}

}  // namespace

v1::JobSpec EvaluationOf(const v1::JobSpec& job) {
  v1::JobSpec evaluation = job;
  evaluation.set_name(absl::StrCat(job.name().substr(0, kMostOfName), "-eval"));
  evaluation.set_num_epochs(0);
  evaluation.clear_lora();
  if (job.lora().has_unsupported_modules()) {
    evaluation.mutable_lora()->set_unsupported_modules(job.lora().unsupported_modules());
  }
  // What is about epochs alone. eval.batch_size stays: with another one, numbers round differently.
  evaluation.mutable_data()->clear_path();
  evaluation.clear_train();
  evaluation.clear_advantage();
  evaluation.clear_checkpoint();
  evaluation.clear_topology();
  evaluation.mutable_sample()->clear_batch_size();
  evaluation.mutable_sample()->clear_num_batches_per_epoch();
  evaluation.mutable_sample()->clear_max_staleness();
  evaluation.mutable_sample()->clear_group_size();
  evaluation.mutable_sample()->clear_same_init_noise();
  evaluation.mutable_sample()->clear_sde_window();
  evaluation.mutable_device()->clear_device_batch_size();
  evaluation.mutable_eval()->clear_every_epochs();
  evaluation.mutable_eval()->clear_use_ema();
  return evaluation;
}

v1::JobSpec EvaluationOfModel(const std::string& name, const std::string& model) {
  v1::JobSpec evaluation;
  evaluation.set_name(name);
  evaluation.set_num_epochs(0);
  evaluation.mutable_model()->set_path(model);
  // The micro-batch that fits into memory is a divisor of both, and eval.batch_size is the same.
  evaluation.mutable_sample()->set_batch_size(kSampledTogether);
  evaluation.mutable_train()->set_batch_size(kSampledTogether);
  return evaluation;
}

std::string AverageBeside(const std::string& lora) {
  std::filesystem::path path(lora);
  if (path.extension() == ".safetensors") path = path.parent_path();
  return (path / kAverageName).string();
}

absl::StatusOr<std::string> LoraOf(const v1::Job& job, bool best, bool ema) {
  if (best && ema) {
    return absl::InvalidArgumentError(
        "--best and --ema are two LoRAs; the best one is the average where the job has "
        "`eval.use_ema`");
  }
  if (ema && job.spec().train().ema_decay() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ema: ", job.id(), " keeps no average: its `train.ema_decay` is 0"));
  }
  const std::string& lora = best ? job.best_lora_path() : job.lora_path();
  if (lora.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        job.id(),
        best ? " has no best LoRA: it keeps one with `checkpoint.best`, after an evaluation"
             : " has no checkpoint yet, so there is no LoRA to evaluate"));
  }
  const bool is_average = !best && (ema || job.spec().eval().use_ema());
  return is_average ? AverageBeside(lora) : lora;
}

v1::JobSpec WithoutLora(v1::JobSpec evaluation) {
  evaluation.set_name(absl::StrCat(evaluation.name().substr(0, kMostOfName), "-base"));
  evaluation.clear_lora();
  return evaluation;
}

void AddDistances(bool to_targets, v1::JobSpec* job) {
  for (const std::string reference : {"input", "target"}) {
    if (reference == "target" && !to_targets) continue;
    for (const std::string type : {"l1", "psnr", "ssim"}) {
      if (type == "ssim" && IsBelowSsimWindow(job->data())) continue;
      const bool is_there = std::any_of(
          job->rewards().begin(), job->rewards().end(),
          [&](const v1::RewardSpec& reward) { return IsPlainDistance(reward, type, reference); });
      if (is_there) continue;
      v1::RewardSpec* added = job->add_rewards();
      added->set_type(type);
      added->set_name(absl::StrCat(reference, "_", type));
      added->set_reference(reference);
      added->set_held_out(true);
    }
  }
}

std::string AsSetting(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    return ValidText(std::filesystem::absolute(path).lexically_normal().string());
  }
  return IsValidUtf8(path) ? path : ValidText(path);
}

absl::StatusOr<ResolvedJob> Compose(v1::JobSpec job, const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) {
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(ApplyJobSetting(setting, &job), "--set"));
  }
  absl::StatusOr<ResolvedJob> judged = ResolvedJob::Make(std::move(job));
  if (judged.ok()) return judged;
  return absl::InvalidArgumentError(
      absl::StrCat("this cannot run:\n  ",
                   absl::StrReplaceAll(std::string(judged.status().message()), {{"\n", "\n  "}})));
}

ExitCode RunEvaluations(Client& client, const std::vector<v1::JobSpec>& jobs, bool shows_progress,
                        std::vector<Evaluated>* results) {
  std::vector<std::string> ids;
  for (const v1::JobSpec& spec : jobs) {
    const absl::StatusOr<v1::Job> job = SubmitOnce(client, spec);
    if (!job.ok()) return Report(job.status());
    ids.push_back(job->id());
    std::cerr << job->id() << " (" << Printable(job->spec().name()) << ") evaluates "
              << (spec.lora().init_from().empty() ? "the model without a LoRA"
                                                  : Printable(spec.lora().init_from()))
              << std::endl;
  }
  for (const std::string& id : ids) {
    Evaluated& result = results->emplace_back();
    const ExitCode code = WaitForEvaluation(client, id, shows_progress, &result);
    if (code != ExitCode::kOk) return code;
  }
  return ExitCode::kOk;
}

absl::StatusOr<std::string> ReadEvalFile(Client& client, const v1::Job& job,
                                         std::string_view name) {
  return ReadArtifact(client, job.id(),
                      absl::StrCat("eval/", absl::string_view(name.data(), name.size())));
}

}  // namespace imageddpo
