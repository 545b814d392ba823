#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_text.h"

namespace imageddpo {

void AddGetCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string id;
    std::string output = "table";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("get", "Show one job");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command
      ->add_option("-o,--output", options->output,
                   "table; json: everything; yaml: its settings as a job file; name: its id")
      ->check(CLI::IsMember({"table", "json", "yaml", "name"}));
  command->footer(
      "\nExamples: imageddpo get job-000001\n"
      "          imageddpo get job-000001 -o yaml > job.yaml");
  command->callback([options, &program] {
    program.action = [options, &program] {
      Client client = program.MakeClient();
      const absl::StatusOr<v1::Job> job = client.GetJob(options->id);
      if (!job.ok()) return Report(job.status());
      if (options->output == "json") {
        std::cout << JobToJson(*job);
      } else if (options->output == "yaml") {
        std::cout << JobAsFile(*job);
      } else if (options->output == "name") {
        std::cout << Printable(job->id()) << "\n";
      } else {
        const absl::StatusOr<std::vector<v1::JobEvent>> events = client.StoredEvents(options->id);
        if (!events.ok()) return Report(events.status());
        std::cout << JobDetails(*job, *events);
      }
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
