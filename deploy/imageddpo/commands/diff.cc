#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "common/config/compare/job_difference.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {

void AddDiffCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string first, second;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("diff", "Show the settings that differ between two jobs");
  command->add_option("ID", options->first, "Job, as job-000001")->required();
  command->add_option("OTHER", options->second, "The other job")->required();
  command->footer("\nExample: imageddpo diff job-000001 job-000002");
  command->callback([options, &program] {
    program.action = [options, &program] {
      Client client = program.MakeClient();
      const absl::StatusOr<v1::Job> first = client.GetJob(options->first);
      if (!first.ok()) return Report(first.status());
      const absl::StatusOr<v1::Job> second = client.GetJob(options->second);
      if (!second.ok()) return Report(second.status());
      std::vector<std::vector<std::string>> rows;
      for (const SettingDifference& found : DifferentSettings(first->spec(), second->spec())) {
        rows.push_back({found.setting, found.before.empty() ? "-" : Printable(found.before),
                        found.after.empty() ? "-" : Printable(found.after)});
      }
      if (rows.empty()) {
        std::cout << "The two jobs have the same settings.\n";
      } else {
        std::cout << FormatTable({"SETTING", Printable(first->id()), Printable(second->id())},
                                 rows);
      }
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
