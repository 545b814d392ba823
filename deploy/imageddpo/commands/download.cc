#include "deploy/imageddpo/client/download.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {
namespace {

struct DownloadCommandOptions {
  std::string id;
  std::vector<std::string> names;
  bool all = false;
  bool lora = false;
  bool best = false;
  int64_t checkpoint = -1;  ///< -1: not given.
  std::string folder;
  DownloadOptions download;
};

/// The name that a file of the job has in its folder.
absl::StatusOr<std::string> NameOf(const v1::Job& job, const std::string& path, const char* which) {
  if (path.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(job.id(), " has no ", which, " yet"));
  }
  absl::string_view name = path;
  if (absl::ConsumePrefix(&name, job.output_dir()) && absl::ConsumePrefix(&name, "/")) {
    return std::string(name);
  }
  return absl::InternalError(absl::StrCat(path, " lies outside of ", job.output_dir()));
}

/// The files and folders that were asked for.
absl::StatusOr<std::vector<std::string>> WantedNames(Client& client,
                                                     const DownloadCommandOptions& options) {
  std::vector<std::string> wanted;
  for (const std::string& name : options.names) {
    wanted.emplace_back(absl::StripSuffix(name, "/"));
  }
  if (options.checkpoint >= 0) {
    wanted.push_back(absl::StrFormat("checkpoints/epoch-%06d", options.checkpoint));
  }
  const bool is_default = wanted.empty() && !options.best;
  if (!options.lora && !options.best && !is_default) return wanted;
  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Job job, client.GetJob(options.id));
  if (options.lora || is_default) {
    IMAGEDDPO_ASSIGN_OR_RETURN(wanted.emplace_back(), NameOf(job, job.lora_path(), "checkpoint"));
  }
  if (options.best) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        wanted.emplace_back(),
        NameOf(job, job.best_lora_path(), "best LoRA, which it keeps with `checkpoint.best`,"));
  }
  return wanted;
}

absl::StatusOr<std::vector<v1::Artifact>> ChooseFiles(Client& client,
                                                      const DownloadCommandOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<v1::Artifact> files, client.Artifacts(options.id));
  if (!options.all) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> wanted, WantedNames(client, options));
    std::vector<v1::Artifact> chosen;
    for (const std::string& name : wanted) {
      const size_t before = chosen.size();
      std::copy_if(
          files.begin(), files.end(), std::back_inserter(chosen), [&](const v1::Artifact& file) {
            return file.name() == name || absl::StartsWith(file.name(), absl::StrCat(name, "/"));
          });
      if (chosen.size() > before) continue;
      return absl::NotFoundError(absl::StrCat(options.id, " has no file ", name,
                                              "; see `imageddpo artifacts ", options.id, "`"));
    }
    files = std::move(chosen);
  }
  for (const v1::Artifact& file : files) {
    if (!IsSafeName(file.name())) {
      return absl::InternalError(
          absl::StrCat("the service tells of a file ", file.name(), ", which is no name of one"));
    }
  }
  return files;
}

ExitCode RunDownload(const Program& program, const DownloadCommandOptions& options) {
  Client client = program.MakeClient();
  const absl::StatusOr<std::vector<v1::Artifact>> files = ChooseFiles(client, options);
  if (!files.ok()) return Report(files.status());
  const std::string folder = options.folder.empty() ? options.id : options.folder;
  SystemClock clock;
  Screen screen(std::cerr, isatty(STDERR_FILENO) == 1);
  for (const v1::Artifact& file : *files) {
    const std::string path = absl::StrCat(folder, "/", file.name());
    const absl::Status status =
        DownloadFile(client, screen, clock, options.id, file, path, options.download);
    if (!status.ok()) return Report(status);
    std::cout << Printable(path) << std::endl;
  }
  return ExitCode::kOk;
}

}  // namespace

void AddDownloadCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<DownloadCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "download",
      "Download files of a job: its newest LoRA, or what is named; goes on where it was "
      "interrupted");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command->add_option("NAMES", options->names,
                      "Files or folders, as `imageddpo artifacts` shows them");
  command->add_flag("--lora", options->lora, "The LoRA of the newest checkpoint (default)");
  command->add_flag("--best", options->best, "The LoRA that checkpoint.best has kept");
  command
      ->add_option("--checkpoint", options->checkpoint, "The whole checkpoint after so many epochs")
      ->type_name("EPOCHS")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--all", options->all, "Everything that the job has");
  command
      ->add_option("-o,--output", options->folder,
                   "Folder for the files, which keep their names in it; by default the job's id")
      ->type_name("DIR");
  command
      ->add_option("--wait", options->download.wait_seconds,
                   "Seconds to wait for a service that went away")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "\nExamples: imageddpo download job-000001\n"
      "          imageddpo download job-000001 metrics.jsonl samples -o results");
  command->callback([options, &program] {
    program.action = [options, &program] { return RunDownload(program, *options); };
  });
}

}  // namespace imageddpo
