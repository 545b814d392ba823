#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/client/exit_codes.h"

namespace imageddpo {

/// What the sub-commands share. Built in main and outlives the parsing and the action.
struct Program {
  AddressOptions address;
  std::string environment;               ///< Value of $IMAGEDDPO_ADDRESS.
  std::function<bool()> is_interrupted;  ///< Ctrl-C was pressed.
  std::function<ExitCode()> action;      ///< Set by the sub-command that is chosen.

  Client MakeClient() const { return {address, environment, is_interrupted}; }
};

// Each adds one sub-command, in a file of its own.
void AddSubmitCommand(CLI::App& app, Program& program);
void AddListCommand(CLI::App& app, Program& program);
void AddGetCommand(CLI::App& app, Program& program);
void AddWatchCommand(CLI::App& app, Program& program);
void AddCancelCommand(CLI::App& app, Program& program);
void AddValidateCommand(CLI::App& app, Program& program);
void AddImportTrlCommand(CLI::App& app, Program& program);
void AddPlanCommand(CLI::App& app, Program& program);

}  // namespace imageddpo
