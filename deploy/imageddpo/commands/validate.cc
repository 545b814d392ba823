#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

struct ValidateOptions {
  std::string file;
  std::vector<std::string> settings;
  std::string output = "text";
};

// What the job comes to, in numbers.
std::string Summary(const ResolvedJob& resolved) {
  const v1::JobSpec& job = resolved.spec();
  const JobPlan& plan = resolved.plan();
  return FormatTable(
      {"job", job.name()},
      {{"samples an epoch", absl::StrCat(plan.samples_per_epoch)},
       {"steps of a sample",
        absl::StrCat(resolved.executed_steps(), " of ", job.sample().num_steps(),
                     resolved.steps().trained == resolved.executed_steps()
                         ? ""
                         : absl::StrCat(", ", resolved.steps().trained, " of them trained"))},
       {"samples an update", absl::StrCat(plan.samples_per_update)},
       {"updates an epoch", absl::StrCat(plan.updates_per_inner_epoch, " × ",
                                         job.train().num_inner_epochs(), " inner epochs")},
       {"micro-batches an epoch",
        absl::StrCat(plan.micro_batches_per_epoch, " of ", plan.device_batch_size, " samples",
                     resolved.micro_batch_is_open() ? ", chosen at submit by memory" : "")},
       {"trainers at most", absl::StrCat(plan.gradient_shards, " (gradient shards)")},
       {"epochs", absl::StrCat(job.num_epochs())},
       {"samples in all", absl::StrCat(plan.samples_per_epoch * job.num_epochs())}});
}

ExitCode Validate(const ValidateOptions& options) {
  const absl::StatusOr<ResolvedJob> job = LoadJobFile(options.file, options.settings);
  if (!job.ok()) return Report(job.status());
  for (const std::string& warning : job->Warnings()) {
    std::cerr << "warning: " << Printable(warning) << "\n";
  }
  std::cout << (options.output == "yaml" ? JobToYaml(job->spec()) : Summary(*job));
  return ExitCode::kOk;
}

}  // namespace

void AddValidateCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App* command = app.add_subcommand(
      "validate", "Check a job file without a service; files and folders are not looked at");
  command->add_option("FILE", options->file, "Job file, YAML or JSON; - is standard input")
      ->required();
  command->add_option("--set", options->settings, "Setting on top of the file (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("-o,--output", options->output,
                   "text: what it comes to; yaml: the job with every default filled in")
      ->check(CLI::IsMember({"text", "yaml"}));
  command->footer("\nExample: imageddpo validate my-job.yaml");
  command->callback(
      [options, &program] { program.action = [options] { return Validate(*options); }; });
}

}  // namespace imageddpo
