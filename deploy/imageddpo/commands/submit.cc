#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/client/submit_job.h"
#include "deploy/imageddpo/client/watch_job.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/job_text.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {
namespace {

struct SubmitOptions {
  std::string file;
  std::vector<std::string> settings;
  std::string request_id;
  int32_t priority = 0;
  double max_seconds = 0;
  bool hold = false;
  std::vector<std::string> labels;
  std::string output = "text";
  bool watch = false;
  WatchOptions watch_options;
};

ExitCode Submit(const Program& program, const SubmitOptions& options) {
  const absl::StatusOr<ResolvedJob> checked = LoadJobFile(options.file, options.settings);
  if (!checked.ok()) return Report(checked.status());
  v1::SubmitJobRequest request;
  *request.mutable_job() = checked->submitted();
  request.set_request_id(options.request_id);
  request.set_priority(options.priority);
  request.set_max_seconds(options.max_seconds);
  request.set_hold(options.hold);
  const absl::Status labels = ReadLabels(options.labels, request.mutable_labels());
  if (!labels.ok()) return Report(labels);
  Client client = program.MakeClient();
  const absl::StatusOr<v1::Job> job = SubmitOnce(client, std::move(request));
  if (!job.ok()) return Report(job.status());

  if (options.output == "json") {
    std::cout << JobToJson(*job);
  } else if (options.output == "id") {
    std::cout << job->id() << "\n";
  } else {
    std::cout << job->id() << " " << StateName(job->state()) << " ("
              << Printable(job->spec().name()) << ")\n";
    if (!options.watch) std::cout << "Watch it: imageddpo watch " << job->id() << "\n";
  }
  std::cout << std::flush;
  if (!options.watch) return ExitCode::kOk;
  SystemClock clock;
  Screen screen(std::cout, isatty(STDOUT_FILENO) == 1);
  return WatchUntilEnd(client, screen, clock, job->id(), options.watch_options);
}

}  // namespace

void AddSubmitCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = app.add_subcommand("submit", "Submit a job file");
  command->add_option("FILE", options->file, "Job file, YAML or JSON; - is standard input")
      ->required();
  command
      ->add_option("--set", options->settings,
                   "Setting on top of the file, as sample.num_steps=20 (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command->add_flag("-w,--watch", options->watch, "Stay and show the job until it ends");
  command
      ->add_option("--request-id", options->request_id,
                   "The same id twice submits once; by default a random one")
      ->type_name("ID");
  command
      ->add_option("--priority", options->priority,
                   "Of jobs that wait, those with a higher one come first (default 0)")
      ->type_name("INT");
  command
      ->add_option("--max-seconds", options->max_seconds,
                   "Pause it with a checkpoint when ranks have worked for it this long")
      ->check(CLI::NonNegativeNumber)
      ->type_name("SECONDS");
  command->add_flag("--hold", options->hold,
                    "Do not start it before imageddpo resume; its files are checked now");
  command->add_option("--label", options->labels, "A label of the job (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("-o,--output", options->output, "What is printed: text, json, id")
      ->check(CLI::IsMember({"text", "json", "id"}));
  command
      ->add_option("--wait", options->watch_options.wait_seconds,
                   "Seconds to wait for a service that went away while watching")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "\nExamples: imageddpo submit my-job.yaml --watch\n"
      "          imageddpo submit my-job.yaml --set train.learning_rate=1e-4 --label who=me");
  command->callback([options, &program] {
    program.action = [options, &program] { return Submit(program, *options); };
  });
}

}  // namespace imageddpo
