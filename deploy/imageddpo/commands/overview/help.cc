#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/base/suggest.h"
#include "deploy/imageddpo/commands/overview/overview.h"

namespace imageddpo {
namespace {

/// Text as troff shows it as it is.
std::string Troff(absl::string_view text) {
  std::string escaped;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!escaped.empty()) escaped += "\n";
    const bool is_control = !line.empty() && (line[0] == '.' || line[0] == '\'');
    absl::StrAppend(&escaped, is_control ? "\\&" : "",
                    absl::StrReplaceAll(line, {{"\\", "\\e"}, {"-", "\\-"}}));
  }
  return escaped;
}

void AppendOptions(const CLI::App& command, std::string* page) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;
    const std::string type = option->get_positional() ? "" : option->get_type_name();
    absl::StrAppend(page, ".TP\n\\fB", Troff(option->get_name(true, true)), "\\fR",
                    type.empty() ? "" : " \\fI" + Troff(type) + "\\fR", "\n",
                    Troff(option->get_description()), "\n");
  }
}

void AppendText(const std::string& text, std::string* page) {
  if (!text.empty()) absl::StrAppend(page, ".PP\n.nf\n", Troff(text), "\n.fi\n");
}

void AppendCommand(const CLI::App& command, const std::string& name, std::string* page) {
  absl::StrAppend(page, ".SS ", Troff(name), "\n", Troff(command.get_description()), "\n");
  AppendOptions(command, page);
  // One that has none of its own has that of the command above it.
  const CLI::App* above = command.get_parent();
  if (above == nullptr || above->get_footer() != command.get_footer()) {
    AppendText(command.get_footer(), page);
  }
  for (const CLI::App* inner : command.get_subcommands([](const CLI::App*) { return true; })) {
    AppendCommand(*inner, absl::StrCat(name, " ", inner->get_name()), page);
  }
}

}  // namespace

const CLI::App* FindCommand(const CLI::App& app, const std::string& name) {
  const auto found =
      app.get_subcommands([&name](const CLI::App* command) { return command->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

std::vector<const CLI::App*> VisibleCommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

std::string NoSuchCommand(const CLI::App& app, const std::string& name) {
  std::vector<std::string> known;
  for (const CLI::App* command : VisibleCommands(app)) known.push_back(command->get_name());
  return absl::StrCat("there is no command `", name, "`", DidYouMean(name, known));
}

std::string ManPage(const CLI::App& app) {
  std::string page = absl::StrCat(
      ".TH IMAGEDDPO 1\n.SH NAME\nimageddpo \\- ", Troff(app.get_description()),
      "\n.SH SYNOPSIS\n.B imageddpo\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n"
      ".SH OPTIONS\n");
  AppendOptions(app, &page);
  absl::StrAppend(&page, ".SH COMMANDS\n");
  for (const CLI::App* command : VisibleCommands(app)) {
    AppendCommand(*command, command->get_name(), &page);
  }
  absl::StrAppend(&page, ".SH NOTES\n");
  AppendText(app.get_footer(), &page);
  return page;
}

void AddHelpCommand(CLI::App& app, Program& program) {
  struct Options {
    std::string command;
    bool man = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("help", "Print the help of a command, or a manual page");
  command->add_option("COMMAND", options->command, "One of the commands (default: all)");
  command->add_flag("--man", options->man, "All commands as a manual page, for `man -l -`");
  command->footer("\nExamples: imageddpo help submit\n          imageddpo help --man | man -l -");
  command->callback([options, &app, &program] {
    program.action = [options, &app] {
      if (options->man) {
        std::cout << ManPage(app);
        return ExitCode::kOk;
      }
      const CLI::App* shown = options->command.empty() ? &app : FindCommand(app, options->command);
      if (shown == nullptr) {
        return Report(absl::InvalidArgumentError(
            absl::StrCat(NoSuchCommand(app, options->command), "; see imageddpo --help")));
      }
      // help() of the program would print that of the command that was typed: this one.
      std::cout << shown->get_formatter()->make_help(
          shown, absl::StrCat("imageddpo ", options->command), CLI::AppFormatMode::Normal);
      return ExitCode::kOk;
    };
  });
}

}  // namespace imageddpo
