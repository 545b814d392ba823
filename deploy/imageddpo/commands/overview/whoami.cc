#include <iostream>

#include "common/base/text.h"
#include "deploy/imageddpo/commands/overview/overview.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {

void AddWhoamiCommand(CLI::App& app, Program& program) {
  CLI::App* command =
      app.add_subcommand("whoami", "Show who you are to the service, and what you may do");
  command->footer("\nExample: imageddpo whoami --context cluster-a");
  command->callback([&program] {
    program.action = [&program] {
      const auto answer = program.MakeClient().Call(&Client::Stub::Whoami, v1::WhoamiRequest());
      if (!answer.ok()) return Report(answer.status());
      std::cout << "owner    " << (answer->owner().empty() ? "-" : Printable(answer->owner()))
                << "\nrole     " << Printable(answer->role()) << "\nby       "
                << (answer->known_by() == "user"    ? "the user at the Unix socket"
                    : answer->known_by() == "token" ? "a token"
                                                    : "nothing: everyone is an admin here")
                << "\nexpires  "
                << (answer->has_expire_time() ? FormatTime(answer->expire_time()) + " UTC" : "-")
                << "\nservice  imageddpod " << Printable(answer->version()) << "\n";
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
