#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "deploy/imageddpo/commands/overview/overview.h"
#include "deploy/imageddpo/text/cluster_text.h"
#include "deploy/imageddpo/text/job_text.h"

namespace imageddpo {
namespace {

/// Adds `cluster drain` or `cluster undrain`.
void AddDrain(CLI::App& cluster, Program& program, bool undrain) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* command = cluster.add_subcommand(
      undrain ? "undrain" : "drain",
      undrain ? "Give ranks back to the pool"
              : "Take ranks out of the pool; a job there goes on elsewhere after its epoch");
  command->add_option("NAMES", *names, "Ranks or hosts, as `imageddpo cluster` shows them")
      ->type_name("RANK|HOST")
      ->required();
  command->footer(undrain ? "\nExample: imageddpo cluster undrain gpu7"
                          : "\nExample: imageddpo cluster drain gpu7");
  command->callback([names, undrain, &program] {
    program.action = [names, undrain, &program] {
      v1::DrainWorkerRequest request;
      request.set_undrain(undrain);
      for (const std::string& name : *names) {
        int rank = 0;
        if (absl::SimpleAtoi(name, &rank)) {
          request.add_ranks(rank);
        } else {
          request.add_hosts(name);
        }
      }
      const auto answer = program.MakeClient().Call(&Client::Stub::DrainWorker, std::move(request));
      if (!answer.ok()) return Report(answer.status());
      std::cout << ClusterTable(*answer);
      return ExitCode::kOk;
    };
  });
}

}  // namespace

void AddClusterCommand(CLI::App& app, Program& program) {
  auto output = std::make_shared<std::string>("table");
  CLI::App* command = app.add_subcommand(
      "cluster", "Show hosts, ranks, devices and what they work for; drain and undrain them");
  command->require_subcommand(0, 1);
  command->add_option("-o,--output", *output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  command->footer("\nExamples: imageddpo cluster\n          imageddpo cluster drain 3");
  AddDrain(*command, program, /*undrain=*/false);
  AddDrain(*command, program, /*undrain=*/true);
  command->callback([command, output, &program] {
    if (!command->get_subcommands().empty()) return;  // It has set the action.
    program.action = [output, &program] {
      const auto answer =
          program.MakeClient().Call(&Client::Stub::GetCluster, v1::GetClusterRequest());
      if (!answer.ok()) return Report(answer.status());
      std::cout << (*output == "json" ? MessageToJson(*answer) : ClusterTable(*answer));
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
