#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {
namespace {

void AddPause(CLI::App& app, Program& program) {
  auto now = std::make_shared<bool>(false);
  AddJobCommand(app, program, "pause",
                "Take a job off its ranks at the end of its epoch, until it is resumed",
                [now](Client& client, const std::string& id) {
                  v1::PauseJobRequest request;
                  request.set_id(id);
                  request.set_immediately(*now);
                  return client.Call(&Client::Stub::PauseJob, std::move(request));
                })
      ->add_flag("--now", *now, "Do not wait for the end of the epoch; what it has done is lost");
}

void AddResume(CLI::App& app, Program& program) {
  auto epoch = std::make_shared<int64_t>(-1);  // -1: the newest checkpoint.
  AddJobCommand(app, program, "resume",
                "Continue a job that was paused, has failed or was cancelled",
                [epoch](Client& client, const std::string& id) {
                  v1::ResumeJobRequest request;
                  request.set_id(id);
                  if (*epoch >= 0) request.set_epoch(*epoch);
                  return client.Call(&Client::Stub::ResumeJob, std::move(request));
                })
      ->add_option("--from-epoch", *epoch,
                   "Continue from the checkpoint after so many epochs and remove later ones "
                   "(default: the newest)")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void AddJobVerbs(CLI::App& app, Program& program) {
  using Stub = Client::Stub;
  AddJobVerb(app, program, "cancel", "End a job; its checkpoints stay", &Stub::CancelJob);
  AddPause(app, program);
  AddResume(app, program);
  AddJobVerb(app, program, "checkpoint", "Have a job write a checkpoint at the end of its epoch",
             &Stub::CheckpointJob);
}

CLI::App* AddJobCommand(
    CLI::App& app, Program& program, const std::string& name, const std::string& help,
    std::function<absl::StatusOr<v1::Job>(Client& client, const std::string& id)> call) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->footer(absl::StrCat("\nExample: imageddpo ", name, " job-000001"));
  command->callback([id, call = std::move(call), &program] {
    program.action = [id, call, &program] {
      Client client = program.MakeClient();
      const absl::StatusOr<v1::Job> job = call(client, *id);
      if (!job.ok()) return Report(job.status());
      std::cout << job->id() << " " << StateName(job->state()) << "\n";
      return ExitCode::kOk;
    };
  });
  return command;
}

}  // namespace imageddpo
