#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {

absl::Status ReadLabels(const std::vector<std::string>& words,
                        google::protobuf::Map<std::string, std::string>* labels) {
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("--label ", word, ": give KEY=VALUE"));
    }
    (*labels)[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return absl::OkStatus();
}

void AddUpdateCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string id;
    std::optional<int32_t> priority;
    std::optional<double> max_seconds;
    std::optional<int64_t> num_epochs;
    std::vector<std::string> labels;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("update", "Change priority, labels, time or number of epochs");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command
      ->add_option("--priority", options->priority,
                   "Of jobs that wait, those with a higher one come first (-1000 to 1000)")
      ->type_name("INT");
  command
      ->add_option("--max-seconds", options->max_seconds,
                   "Pause it when ranks have worked for it this long in all; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->type_name("SECONDS");
  command
      ->add_option("--num-epochs", options->num_epochs,
                   "Epochs of the job; not while ranks work for it: pause it first")
      ->type_name("INT");
  command->add_option("--label", options->labels, "Label to set; KEY= removes one (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->footer("\nExample: imageddpo update job-000001 --priority 5 --label sweep=rates");
  command->callback([options, &program] {
    program.action = [options, &program] {
      v1::UpdateJobRequest request;
      request.set_id(options->id);
      if (options->priority.has_value()) request.set_priority(*options->priority);
      if (options->max_seconds.has_value()) request.set_max_seconds(*options->max_seconds);
      if (options->num_epochs.has_value()) request.set_num_epochs(*options->num_epochs);
      const absl::Status labels = ReadLabels(options->labels, request.mutable_labels());
      if (!labels.ok()) return Report(labels);
      const absl::StatusOr<v1::Job> job =
          program.MakeClient().Call(&Client::Stub::UpdateJob, request);
      if (!job.ok()) return Report(job.status());
      std::cout << job->id() << " " << StateName(job->state()) << "\n";
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
