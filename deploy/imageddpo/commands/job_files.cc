#include <iostream>
#include <memory>
#include <string>

#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_files_text.h"

namespace imageddpo {

void AddCheckpointsCommand(CLI::App& app, Program& program) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "checkpoints", "List a job's checkpoints, from which `resume` and `branch` can go on");
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->footer("\nExample: imageddpo checkpoints job-000001");
  command->callback([id, &program] {
    program.action = [id, &program] {
      v1::ListCheckpointsRequest request;
      request.set_id(*id);
      const auto found = program.MakeClient().Call(&Client::Stub::ListCheckpoints, request);
      if (!found.ok()) return Report(found.status());
      std::cout << CheckpointTable(*found);
      return ExitCode::kOk;
    };
  });
}

void AddArtifactsCommand(CLI::App& app, Program& program) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("artifacts", "List the files of a job, with their sizes");
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->footer("\nExample: imageddpo artifacts job-000001");
  command->callback([id, &program] {
    program.action = [id, &program] {
      const auto all = program.MakeClient().Artifacts(*id);
      if (!all.ok()) return Report(all.status());
      std::cout << ArtifactTable(*all);
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
