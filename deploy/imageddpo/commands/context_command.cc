#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "deploy/imageddpo/client/contexts.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {
namespace {

absl::StatusOr<Contexts> OpenContexts(const Program& program) {
  if (program.contexts_file.empty()) {
    return absl::FailedPreconditionError("contexts need a folder: set $HOME or $XDG_CONFIG_HOME");
  }
  return ReadContexts(program.contexts_file);
}

std::string AbsoluteOrEmpty(const std::string& path) {
  return path.empty() ? "" : std::filesystem::absolute(path).string();
}

absl::Status AddContext(const Program& program, const std::string& name) {
  const AddressOptions& options = program.address;
  if (options.address.empty()) {
    return absl::InvalidArgumentError("a context needs --address HOST:PORT or unix:PATH");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(Contexts contexts, OpenContexts(program));
  // Checks address and files as a call would.
  IMAGEDDPO_RETURN_IF_ERROR(ResolveAddress(options, {}, "").status());
  Context context{.address = options.address,
                  .tls_ca_file = AbsoluteOrEmpty(options.tls_ca_file),
                  .tls_certificate_file = AbsoluteOrEmpty(options.tls_certificate_file),
                  .tls_key_file = AbsoluteOrEmpty(options.tls_key_file),
                  .token_file = AbsoluteOrEmpty(options.token_file)};
  Address address = *Address::Parse(options.address);
  if (address.is_unix()) {
    address.unix_path = AbsoluteOrEmpty(address.unix_path);
    context.address = address.ToString();
  }
  contexts.entries[name] = std::move(context);
  if (contexts.current.empty()) contexts.current = name;
  IMAGEDDPO_RETURN_IF_ERROR(WriteContexts(program.contexts_file, contexts));
  std::cout << name << (contexts.current == name ? " is added and in use\n" : " is added\n");
  return absl::OkStatus();
}

absl::Status UseContext(const Program& program, const std::string& name) {
  IMAGEDDPO_ASSIGN_OR_RETURN(Contexts contexts, OpenContexts(program));
  IMAGEDDPO_RETURN_IF_ERROR(FindContext(contexts, name).status());
  contexts.current = name;
  IMAGEDDPO_RETURN_IF_ERROR(WriteContexts(program.contexts_file, contexts));
  std::cout << name << " is in use\n";
  return absl::OkStatus();
}

absl::Status ListContexts(const Program& program) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Contexts contexts, OpenContexts(program));
  for (const auto& [name, context] : contexts.entries) {
    std::cout << (name == contexts.current ? "* " : "  ") << Printable(name) << "  "
              << Printable(context.address) << (context.tls_ca_file.empty() ? "" : "  TLS")
              << (context.token_file.empty() ? "" : "  token") << "\n";
  }
  return absl::OkStatus();
}

}  // namespace

void AddContextCommand(CLI::App& app, Program& program) {
  CLI::App* command =
      app.add_subcommand("context", "Names for services: address, authority and token");
  command->require_subcommand(1);
  command->footer(
      "\nExamples: imageddpo context add gpus --address gpu1:50051 --tls-ca-file ca.pem "
      "--token-file "
      "t\n          imageddpo context use gpus");
  auto name = std::make_shared<std::string>();
  const CLI::Validator is_name(
      [](const std::string& text) {
        const bool ok = !text.empty() && text.size() <= 64 &&
                        text.find_first_not_of(
                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "0123456789._-") == std::string::npos;
        return ok ? std::string() : std::string("must be 1 to 64 letters, digits, `.`, `_`, `-`");
      },
      "NAME");
  CLI::App* add = command->add_subcommand(
      "add", "Remember --address, --tls-ca-file and --token-file under a name");
  add->add_option("NAME", *name, "Name of the context")->required()->check(is_name);
  add->callback([name, &program] {
    program.action = [name, &program] { return Report(AddContext(program, *name)); };
  });
  CLI::App* use = command->add_subcommand("use", "Call this one from now on");
  use->add_option("NAME", *name, "Name of the context")->required();
  use->callback([name, &program] {
    program.action = [name, &program] { return Report(UseContext(program, *name)); };
  });
  command->add_subcommand("list", "Show all; * is the one in use")->callback([&program] {
    program.action = [&program] { return Report(ListContexts(program)); };
  });
}

}  // namespace imageddpo
