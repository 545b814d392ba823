#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {

void AddJobVerbs(CLI::App& app, Program& program) {
  using Stub = Client::Stub;
  AddJobVerb(app, program, "cancel", "End a job; its checkpoints stay", &Stub::CancelJob);
}

void AddJobCommand(
    CLI::App& app, Program& program, const std::string& name, const std::string& help,
    std::function<absl::StatusOr<v1::Job>(Client& client, const std::string& id)> call) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->callback([id, call = std::move(call), &program] {
    program.action = [id, call, &program] {
      Client client = program.MakeClient();
      const absl::StatusOr<v1::Job> job = call(client, *id);
      if (!job.ok()) return Report(job.status());
      std::cout << job->id() << " " << StateName(job->state()) << "\n";
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
