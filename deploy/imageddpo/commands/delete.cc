#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_files_text.h"

namespace imageddpo {

void AddDeleteCommand(CLI::App& app, Program& program) {
  auto ids = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand(
      "delete", "Delete jobs that have ended, with their events, checkpoints and other files");
  command->add_option("ID", *ids, "Jobs, as job-000001")->required();
  command->footer("\nExample: imageddpo delete job-000001 job-000002");
  command->callback([ids, &program] {
    program.action = [ids, &program] {
      Client client = program.MakeClient();
      ExitCode code = ExitCode::kOk;  // The first one that is not.
      for (const std::string& id : *ids) {
        v1::DeleteJobRequest request;
        request.set_id(id);
        const auto freed = client.Call(&Client::Stub::DeleteJob, request, Client::kSubmitTimeout);
        if (freed.ok()) {
          std::cout << Printable(id) << " deleted: " << FormatBytes(freed->freed_bytes()) << " in "
                    << freed->num_files() << (freed->num_files() == 1 ? " file" : " files")
                    << " freed" << std::endl;
        } else if (const ExitCode failed = Report(freed.status()); code == ExitCode::kOk) {
          code = failed;
        }
      }
      return code;
    };
  });
}

}  // namespace imageddpo
