// imageddpo: the client of the trainer service.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/stop_flag.h"
#include "common/base/suggest.h"
#include "common/base/text.h"
#include "deploy/imageddpo/client/contexts.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/commands/overview/overview.h"
#include "deploy/imageddpo/version.h"

namespace imageddpo {
namespace {

constexpr char kFooter[] =
    "\nThe service is looked for at --address, --service-file or --context, else at\n"
    "$IMAGEDDPO_ADDRESS, in $IMAGEDDPO_CONTEXT or the context in use (imageddpo context), else at\n"
    "the socket out/imageddpo/api.sock in this folder.\n"
    "\nExit codes: 0 done; 1 a watched job failed or was cancelled, or check-data found images "
    "that\n"
    "cannot be read; 2 wrong arguments or job file;\n"
    "3 no such job; 4 no service answers; 130 interrupted. See docs/errors.md.\n"
    "\nExample: imageddpo submit deploy/jobs/sd15-compressibility.yaml --watch";

/// What was meant by a command or an option that there is none of; empty: the fault is another one.
std::string MistypedWord(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string title = "imageddpo";  // "imageddpo admin token"
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    absl::StrAppend(&title, " ", command->get_name());
  }
  const std::vector<std::string> words = app.remaining(/*recurse=*/true);
  const auto is_option = [](const std::string& text) { return text.starts_with("--"); };
  if (const auto word = std::find_if(words.begin(), words.end(), is_option); word != words.end()) {
    const std::string name = word->substr(2, word->find('=') - 2);
    std::vector<std::string> known;
    for (const CLI::App* part : {command, &app}) {
      for (const CLI::Option* option : part->get_options()) {
        for (const std::string& known_name : option->get_lnames()) {
          known.push_back(absl::StrCat("--", known_name));
        }
      }
    }
    return absl::StrCat(title, " has no option --", name,
                        DidYouMean(absl::StrCat("--", name), known), "\n", title,
                        " --help lists all.\n");
  }
  const bool has_commands = !VisibleCommands(*command).empty();
  if (words.empty() || !has_commands) return "";
  return absl::StrCat(NoSuchCommand(*command, words.front()), "; see ", title, " --help\n");
}

int Main(int argc, char** argv) {
  const StopFlag stop;
  Program program;
  program.environment = AddressFromEnvironment();
  program.contexts_file = ContextsFile();
  program.version = kVersion;
  program.is_interrupted = [&stop] { return stop.Requested(); };

  CLI::App app("Trains img2img diffusion models with DDPO, on a service: imageddpod.", "imageddpo");
  app.set_version_flag("--version", std::string("imageddpo ") + kVersion);
  app.require_subcommand(1);
  app.fallthrough();  // --address may stand behind the sub-command too.
  app.footer(kFooter);
  app.add_option("--address", program.address.address, "Where the service listens")
      ->type_name("HOST:PORT|unix:PATH");
  app.add_option("--service-file", program.address.service_file,
                 "<data_dir>/service.json of the service")
      ->type_name("FILE")
      ->excludes("--address");
  app.add_option("--context", program.address.context, "Name of a service; see imageddpo context")
      ->excludes("--address")
      ->excludes("--service-file");
  AddressOptions& address = program.address;
  for (const auto& [name, target, help] :
       {std::tuple("--tls-ca-file", &address.tls_ca_file, "PEM: the service's authority"),
        std::tuple("--tls-certificate-file", &address.tls_certificate_file,
                   "PEM: this client's certificate, for mutual TLS"),
        std::tuple("--tls-key-file", &address.tls_key_file, "PEM: its private key"),
        std::tuple("--token-file", &address.token_file, "File with the token")}) {
    app.add_option(name, *target, help)->type_name("FILE");
  }
  AddSubmitCommand(app, program);
  AddListCommand(app, program);
  AddGetCommand(app, program);
  AddWatchCommand(app, program);
  AddJobVerbs(app, program);
  AddBranchCommand(app, program);
  AddUpdateCommand(app, program);
  AddDeleteCommand(app, program);
  AddCheckpointsCommand(app, program);
  AddArtifactsCommand(app, program);
  AddDownloadCommand(app, program);
  AddLogsCommand(app, program);
  AddWaitCommand(app, program);
  AddProfileCommand(app, program);
  AddDiffCommand(app, program);
  AddValidateCommand(app, program);
  AddImportTrlCommand(app, program);
  AddPlanCommand(app, program);
  AddEvalCommand(app, program);
  AddSampleCommand(app, program);
  AddReportCommand(app, program);
  AddCheckDataCommand(app, program);
  AddContextCommand(app, program);
  AddAdminCommand(app, program);
  AddClusterCommand(app, program);
  AddTopCommand(app, program);
  AddWhoamiCommand(app, program);
  AddSweepCommand(app, program);
  AddCompareCommand(app, program);
  AddHelpCommand(app, program);
  AddCompletionCommand(app, program);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool may_be_mistyped = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr ||
                                 dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
    if (const std::string fault = may_be_mistyped ? MistypedWord(app) : ""; !fault.empty()) {
      std::cerr << "imageddpo: " << Printable(fault, /*keep_newlines=*/true);
      return static_cast<int>(ExitCode::kUsage);
    }
    std::ostringstream message;  // It repeats the arguments.
    const int code = app.exit(error, std::cout, message);
    std::cerr << Printable(message.str(), /*keep_newlines=*/true);
    return code == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(program.action());
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  try {
    return imageddpo::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "imageddpo: " << imageddpo::Printable(error.what(), /*keep_newlines=*/true)
              << std::endl;
    return static_cast<int>(imageddpo::ExitCode::kJobFailed);
  }
}
