#pragma once

#include <google/protobuf/map.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/client/exit_codes.h"

namespace imageddpo {

/// What the sub-commands share. Built in main and outlives the parsing and the action.
struct Program {
  AddressOptions address;
  AddressOptions environment;            ///< What the variables say.
  std::string contexts_file;             ///< See ContextsFile().
  std::string version;                   ///< Of the client.
  std::function<bool()> is_interrupted;  ///< Ctrl-C was pressed.
  std::function<ExitCode()> action;      ///< Set by the sub-command that is chosen.

  Client MakeClient() const { return {address, environment, contexts_file, is_interrupted}; }
};

// Each adds one sub-command, in a file of its own.
void AddSubmitCommand(CLI::App& app, Program& program);
void AddListCommand(CLI::App& app, Program& program);
void AddGetCommand(CLI::App& app, Program& program);
void AddWatchCommand(CLI::App& app, Program& program);
void AddValidateCommand(CLI::App& app, Program& program);
void AddImportTrlCommand(CLI::App& app, Program& program);
void AddCheckDataCommand(CLI::App& app, Program& program);
void AddPlanCommand(CLI::App& app, Program& program);
void AddEvalCommand(CLI::App& app, Program& program);
void AddSampleCommand(CLI::App& app, Program& program);
void AddContextCommand(CLI::App& app, Program& program);
void AddAdminCommand(CLI::App& app, Program& program);
void AddReportCommand(CLI::App& app, Program& program);

void AddBranchCommand(CLI::App& app, Program& program);
void AddUpdateCommand(CLI::App& app, Program& program);
void AddDeleteCommand(CLI::App& app, Program& program);
void AddCheckpointsCommand(CLI::App& app, Program& program);
void AddArtifactsCommand(CLI::App& app, Program& program);
void AddDownloadCommand(CLI::App& app, Program& program);
void AddLogsCommand(CLI::App& app, Program& program);
void AddWaitCommand(CLI::App& app, Program& program);
void AddProfileCommand(CLI::App& app, Program& program);
void AddDiffCommand(CLI::App& app, Program& program);

/// Reads values of --label, KEY=VALUE each. @return INVALID_ARGUMENT naming one that is not.
absl::Status ReadLabels(const std::vector<std::string>& words,
                        google::protobuf::Map<std::string, std::string>* labels);

/// Adds the verbs that take a job's id, as `cancel`; a line each, or a function where one has
/// options.
void AddJobVerbs(CLI::App& app, Program& program);

/// Adds `imageddpo NAME ID`, which makes a call and prints the job's state after it.
/// @return the command, for options of its own.
CLI::App* AddJobCommand(
    CLI::App& app, Program& program, const std::string& name, const std::string& help,
    std::function<absl::StatusOr<v1::Job>(Client& client, const std::string& id)> call);

/// The same for a method of the API.
template <typename Request>
void AddJobVerb(CLI::App& app, Program& program, const std::string& name, const std::string& help,
                Client::Method<Request, v1::Job> method) {
  AddJobCommand(app, program, name, help, [method](Client& client, const std::string& id) {
    Request request;
    request.set_id(id);
    return client.Call(method, std::move(request));
  });
}

}  // namespace imageddpo
