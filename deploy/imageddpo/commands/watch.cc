#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "deploy/imageddpo/client/watch_job.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/screen.h"
#include "deploy/imageddpo/text/terminal_picture.h"

namespace imageddpo {

void AddWatchCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string id;
    WatchOptions watch;
    std::string pictures = "auto";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("watch", "Show a job from its beginning until it ends");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command
      ->add_option("--wait", options->watch.wait_seconds,
                   "Seconds to wait for a service that went away")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--pictures", options->pictures,
                   "How a terminal shows the newest held-out images, before and after: auto "
                   "(default: as the terminal can), kitty, iterm, sixel, blocks, or none")
      ->check(CLI::IsMember({"auto", "kitty", "iterm", "sixel", "blocks", "none"}));
  command->footer("\nExample: imageddpo watch job-000001");
  command->callback([options, &program] {
    program.action = [options, &program] {
      Client client = program.MakeClient();
      SystemClock clock;
      Screen screen(std::cout, isatty(STDOUT_FILENO) == 1);
      const Environment environment = [](const char* name) {
        const char* const value = std::getenv(name);
        return std::string(value == nullptr ? "" : value);
      };
      const std::string colours = environment("COLORTERM");
      options->watch.pictures = ProtocolNamed(options->pictures, environment);
      options->watch.has_true_colour = colours == "truecolor" || colours == "24bit";
      return WatchUntilEnd(client, screen, clock, options->id, options->watch);
    };
  });
}

}  // namespace imageddpo
