#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/config/job_states.h"
#include "deploy/imageddpo/client/submit_job.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {

void AddBranchCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string id;
    int64_t epoch = -1;  // -1: the newest checkpoint.
    std::vector<std::string> settings;
    std::string request_id;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "branch", "Make a new job that goes on from another one's checkpoint, optimizer included");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command
      ->add_option("--from-epoch", options->epoch,
                   "The checkpoint after so many epochs (default: the newest)")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--set", options->settings,
                   "Setting that changes, as train.learning_rate=1e-4 (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--request-id", options->request_id,
                   "The same id twice branches once; by default a random one")
      ->type_name("ID");
  command->footer(
      "\nSettings of the model, the LoRA and the optimizer's form cannot change; what can and what "
      "cannot:\ndocs/control_plane.md.\n"
      "\nExample: imageddpo branch job-000001 --from-epoch 20 --set train.learning_rate=1e-4 --set "
      "name=slower");
  command->callback([options, &program] {
    program.action = [options, &program] {
      v1::BranchJobRequest request;
      request.set_id(options->id);
      if (options->epoch >= 0) request.set_epoch(options->epoch);
      for (const std::string& setting : options->settings) request.add_settings(setting);
      request.set_request_id(options->request_id);
      Client client = program.MakeClient();
      const absl::StatusOr<v1::Job> job = BranchOnce(client, std::move(request));
      if (!job.ok()) return Report(job.status());
      std::cout << job->id() << " " << StateName(job->state()) << ", from epoch "
                << job->branched_from_epoch() << " of " << job->branched_from() << "\n";
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
