#include <iostream>
#include <memory>
#include <string>

#include "common/base/text.h"
#include "common/config/import_trl.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {

void AddImportTrlCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string file;
    int processes = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "import-trl", "Print a job file made from TRL's DDPOConfig (YAML or JSON)");
  command->add_option("FILE", options->file, "DDPOConfig's settings; - is standard input")
      ->required();
  command
      ->add_option("--processes", options->processes,
                   "How many processes ran (accelerate's num_processes): batch sizes there are per "
                   "process, here of all together")
      ->required()
      ->type_name("P");
  command->footer("\nExample: imageddpo import-trl ddpo.yaml --processes 2 > job.yaml");
  command->callback([options, &program] {
    program.action = [options] {
      const absl::StatusOr<std::string> text = ReadInput(options->file);
      if (!text.ok()) return Report(text.status());
      const absl::StatusOr<TrlImport> import = ImportTrl(*text, options->file, options->processes);
      if (!import.ok()) return Report(import.status());
      for (const std::string& note : import->notes) {
        std::cerr << "note: " << Printable(note) << "\n";
      }
      std::cout << import->ToYaml(options->file);
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
