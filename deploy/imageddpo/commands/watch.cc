#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "deploy/imageddpo/client/watch_job.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {

void AddWatchCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string id;
    WatchOptions watch;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("watch", "Show a job from its beginning until it ends");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command
      ->add_option("--wait", options->watch.wait_seconds,
                   "Seconds to wait for a service that went away")
      ->check(CLI::NonNegativeNumber);
  command->footer("\nExample: imageddpo watch job-000001");
  command->callback([options, &program] {
    program.action = [options, &program] {
      Client client = program.MakeClient();
      SystemClock clock;
      Screen screen(std::cout, isatty(STDOUT_FILENO) == 1);
      return WatchUntilEnd(client, screen, clock, options->id, options->watch);
    };
  });
}

}  // namespace imageddpo
