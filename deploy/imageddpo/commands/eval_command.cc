#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/commands/evaluation.h"
#include "deploy/imageddpo/text/eval_text.h"

namespace imageddpo {
namespace {

struct EvalCommandOptions {
  std::string what;  ///< A job's id, or a LoRA.
  std::string data;
  std::string model;
  std::string job_file;
  std::vector<std::string> settings;
  bool best = false;
  bool ema = false;
  bool base = false;
  bool targets = false;
  bool watch = false;
  std::string output = "text";
};

bool IsJobId(absl::string_view text) {
  return absl::ConsumePrefix(&text, "job-") && !text.empty() &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c); });
}

/// The evaluation of a job's LoRA, with the job's settings.
absl::StatusOr<v1::JobSpec> EvaluationOfJob(Client& client, const EvalCommandOptions& options) {
  if (!options.model.empty() || !options.job_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--model and --job go with a LoRA; ",
                                                   options.what,
                                                   " has a model and settings of its own"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Job job, client.GetJob(options.what));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string lora, LoraOf(job, options.best, options.ema));
  v1::JobSpec spec = EvaluationOf(job.spec());
  spec.mutable_lora()->set_init_from(lora);
  return spec;
}

/// The evaluation of a LoRA, with the settings of a job file or with the defaults.
absl::StatusOr<v1::JobSpec> EvaluationOfLora(const EvalCommandOptions& options) {
  if (options.best) return absl::InvalidArgumentError("--best goes with a job, as job-000001");
  if (options.model.empty() && options.job_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.what,
        " is no job's id, and a LoRA needs its model: --model DIR, or a job file with --job FILE"));
  }
  v1::JobSpec spec;
  if (options.job_file.empty()) {
    spec = EvaluationOfModel("eval", AsSetting(options.model));
  } else {
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob job, LoadJobFile(options.job_file, {}));
    spec = EvaluationOf(job.spec());
    if (!options.model.empty()) spec.mutable_model()->set_path(AsSetting(options.model));
  }
  spec.mutable_lora()->set_init_from(
      AsSetting(options.ema ? AverageBeside(options.what) : options.what));
  return spec;
}

absl::StatusOr<ResolvedJob> ComposeEvaluation(Client& client, const EvalCommandOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(v1::JobSpec spec, IsJobId(options.what)
                                                   ? EvaluationOfJob(client, options)
                                                   : EvaluationOfLora(options));
  spec.mutable_eval()->clear_files();
  spec.mutable_eval()->set_path(AsSetting(options.data));
  const bool has_targets =
      options.targets || spec.data().has_corrupt() ||
      std::any_of(spec.rewards().begin(), spec.rewards().end(),
                  [](const v1::RewardSpec& reward) { return reward.reference() == "target"; });
  AddDistances(has_targets, &spec);
  return Compose(std::move(spec), options.settings);
}

/// The paired difference of two evaluations of the same images.
absl::StatusOr<Estimates> DifferenceOf(Client& client, const Evaluated& with_lora,
                                       const Evaluated& base) {
  constexpr const char* kRows = "epoch-000000.jsonl";
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string left, ReadEvalFile(client, with_lora.job, kRows));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string right, ReadEvalFile(client, base.job, kRows));
  return PairedDifferences(left, right, with_lora.eval.num_images());
}

ExitCode RunEvalCommand(const Program& program, const EvalCommandOptions& options) {
  Client client = program.MakeClient();
  const absl::StatusOr<ResolvedJob> composed = ComposeEvaluation(client, options);
  if (!composed.ok()) return Report(composed.status());
  std::vector<v1::JobSpec> jobs = {composed->submitted()};
  if (options.base) jobs.push_back(WithoutLora(composed->submitted()));
  std::vector<Evaluated> done;
  const ExitCode code = RunEvaluations(client, jobs, options.watch, &done);
  if (code != ExitCode::kOk) return code;

  EvalResult result{.spec = done.front().job.spec(),
                    .num_images = done.front().eval.num_images(),
                    .with_lora = EstimatesOf(done.front().eval),
                    .base = {},
                    .difference = {}};
  if (options.base) {
    result.base = EstimatesOf(done.back().eval);
    absl::StatusOr<Estimates> difference = DifferenceOf(client, done.front(), done.back());
    if (difference.ok()) {
      result.difference = *std::move(difference);
    } else {
      std::cerr << "warning: without paired differences, whose rows cannot be read: "
                << Printable(std::string(difference.status().message())) << "\n";
    }
  }
  std::cout << (options.output == "json" ? EvalJson(result) : EvalTable(result)) << std::flush;
  return ExitCode::kOk;
}

}  // namespace

void AddEvalCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<EvalCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "eval", "Evaluate a LoRA on held-out images, with standard errors; a job of its own");
  command
      ->add_option(
          "LORA", options->what,
          "Job, as job-000001: its newest LoRA, with its model, rewards and sampling; or a "
          "LoRA file or folder, with --model or --job")
      ->required();
  command->add_option("--data", options->data, "Held-out images, as eval.path")
      ->type_name("DIR")
      ->required();
  command->add_option("--model", options->model, "Model of a LoRA file")->type_name("DIR");
  command->add_option("--job", options->job_file, "Job file with the settings for a LoRA file")
      ->type_name("FILE");
  command->add_flag("--best", options->best, "Of a job: the LoRA that checkpoint.best has kept");
  command->add_flag("--ema", options->ema,
                    "The moving average (train.ema_decay) of the same checkpoint; of a job with "
                    "eval.use_ema it is what is evaluated in any case");
  command->add_flag("--base", options->base,
                    "The model without the LoRA too, in a second job, with paired differences");
  command->add_flag("--targets", options->targets,
                    "The images have targets: measure the distance to them as well");
  command
      ->add_option("--set", options->settings, "Setting on top, as eval.num_seeds=4 (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command->add_flag("-w,--watch", options->watch, "Show the progress on standard error");
  command->add_option("-o,--output", options->output, "What is printed: text, json")
      ->check(CLI::IsMember({"text", "json"}));
  command->footer(
      "\nExamples: imageddpo eval job-000001 --data data/held-out --base\n"
      "          imageddpo eval my-lora.safetensors --model models/sd15 --data data/held-out");
  command->callback([options, &program] {
    program.action = [options, &program] { return RunEvalCommand(program, *options); };
  });
}

}  // namespace imageddpo
