#include <iostream>
#include <memory>
#include <string>

#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {

void AddCancelCommand(CLI::App& app, Program& program) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("cancel", "End a job; its checkpoints stay");
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->callback([id, &program] {
    program.action = [id, &program] {
      const absl::StatusOr<v1::Job> job = program.MakeClient().CancelJob(*id);
      if (!job.ok()) return Report(job.status());
      std::cout << job->id() << " " << StateName(job->state()) << "\n";
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
