#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/client/exit_codes.h"

// Jobs without epochs, as `eval` and `sample` compose and run them.
namespace imageddpo {

/// A job with the model, rewards, sampling and evaluation of `job` that trains nothing; lora has
/// lora.unsupported_modules alone. @param job  its defaults filled in.
v1::JobSpec EvaluationOf(const v1::JobSpec& job);

/// The same of a model alone, without rewards. As many as 8 images are sampled together, fewer
/// where memory is short.
v1::JobSpec EvaluationOfModel(const std::string& name, const std::string& model);

/// The LoRA to evaluate of a job: with `best` the one that checkpoint.best keeps, which is what its
/// evaluations were of; else that of its newest checkpoint, or with `ema` or its `eval.use_ema` the
/// moving average of that checkpoint.
/// @return a path on the service's host; FAILED_PRECONDITION: the job has none; INVALID_ARGUMENT:
///         `ema` without an average, or beside `best`.
absl::StatusOr<std::string> LoraOf(const v1::Job& job, bool best, bool ema);

/// The moving average (train.ema_decay) in the checkpoint that a LoRA's file or folder names.
std::string AverageBeside(const std::string& lora);

/// The same job of the model without a LoRA.
v1::JobSpec WithoutLora(v1::JobSpec evaluation);

/// Adds held-out rewards `input_l1`, `input_psnr` and `input_ssim`, distances to the input, where
/// the job does not measure the same already. @param to_targets  `target_l1` and so on too.
void AddDistances(bool to_targets, v1::JobSpec* job);

/// A path of the command line as a setting: absolute where it exists on this host; otherwise it is
/// one of the service's host.
std::string AsSetting(const std::string& path);

/// The job with settings of the command line on top ("sample.num_steps=20"), judged.
absl::StatusOr<ResolvedJob> Compose(v1::JobSpec job, const std::vector<std::string>& settings);

struct Evaluated {
  v1::Job job;  ///< As it ended.
  v1::EvalEvent eval;
};

/// Submits the jobs, then waits for each. @param shows_progress  on standard error.
/// @return kOk: all have SUCCEEDED, and are in `results`; otherwise the reason was reported.
ExitCode RunEvaluations(Client& client, const std::vector<v1::JobSpec>& jobs, bool shows_progress,
                        std::vector<Evaluated>* results);

/// A file of the job's evaluation: "epoch-000000.jsonl", "epoch-000000/0-input.png".
absl::StatusOr<std::string> ReadEvalFile(Client& client, const v1::Job& job, std::string_view name);

}  // namespace imageddpo
