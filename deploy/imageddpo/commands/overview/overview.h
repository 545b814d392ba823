#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {

// Each adds one sub-command, in a file of its own.
void AddClusterCommand(CLI::App& app, Program& program);
void AddTopCommand(CLI::App& app, Program& program);
void AddWhoamiCommand(CLI::App& app, Program& program);
void AddSweepCommand(CLI::App& app, Program& program);
void AddCompareCommand(CLI::App& app, Program& program);
/// Add them last: they tell what the other commands are.
void AddCompletionCommand(CLI::App& app, Program& program);
void AddHelpCommand(CLI::App& app, Program& program);

/// The sub-command of that name. Null: there is none.
const CLI::App* FindCommand(const CLI::App& app, const std::string& name);

/// The sub-commands that --help lists.
std::vector<const CLI::App*> VisibleCommands(const CLI::App& app);

/// "there is no command `sumbit`; did you mean `submit`?"
std::string NoSuchCommand(const CLI::App& app, const std::string& name);

/// The label that the jobs of a sweep have, with the sweep's name as its value.
inline constexpr char kSweepLabel[] = "sweep";

/// All jobs of the service, the newest first.
absl::StatusOr<std::vector<v1::Job>> AllJobs(Client& client);

/// The words that can stand at the end of a command line that is being typed, one of which the last
/// word begins; with "ID" where a job's id can stand. The line begins with the program's name.
std::vector<std::string> Completions(const CLI::App& app, const std::string& line);

/// The manual page of the program and all its commands, in troff's man macros.
std::string ManPage(const CLI::App& app);

/// Every combination of the grids' values, as settings: {"a=1", "b=x"}, {"a=1", "b=y"}, …
/// @param grids  "SETTING=VALUE,VALUE" each; commas inside of brackets and quotes do not separate.
/// @return INVALID_ARGUMENT naming a grid that is not; more than 1000 combinations.
absl::StatusOr<std::vector<std::vector<std::string>>> GridOf(const std::vector<std::string>& grids);

}  // namespace imageddpo
