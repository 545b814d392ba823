#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/clock.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {
namespace {

constexpr double kTraceLookSeconds = 0.5;

/// Of "rollout 2, trainer 1" or "colocated 2".
int NumRanksOf(const std::string& topology) {
  int ranks = 0, number = 0;
  for (const absl::string_view word : absl::StrSplit(topology, absl::ByAnyChar(" ,"))) {
    if (absl::SimpleAtoi(word, &number)) ranks += number;
  }
  return ranks;
}

/// The traces of a folder that are there.
absl::StatusOr<std::vector<std::string>> TracesIn(Client& client, const std::string& id,
                                                  const std::string& folder) {
  v1::ListArtifactsRequest request;
  request.set_id(id);
  request.set_page_token(folder);  // Names are sorted: what comes before it is not asked for.
  const auto page = client.Call(&Client::Stub::ListArtifacts, request);
  if (!page.ok()) return page.status();
  std::vector<std::string> names;
  for (const v1::Artifact& artifact : page->artifacts()) {
    if (absl::StartsWith(artifact.name(), folder)) names.push_back(artifact.name());
  }
  return names;
}

ExitCode TraceEpochs(const Program& program, const std::string& id, int64_t num_epochs) {
  Client client = program.MakeClient();
  v1::ProfileJobRequest request;
  request.set_id(id);
  request.set_num_epochs(num_epochs);
  const absl::StatusOr<v1::Job> job = client.Call(&Client::Stub::ProfileJob, request);
  if (!job.ok()) return Report(job.status());
  const std::string folder = absl::StrFormat("profile/epoch-%06d/", job->progress().epoch());
  const auto ranks = static_cast<size_t>(NumRanksOf(job->topology()));
  SystemClock clock;
  while (true) {
    // First, so that what is listed then is all that there will be.
    const absl::StatusOr<v1::Job> now = client.GetJob(id);
    if (!now.ok()) return Report(now.status());
    const absl::StatusOr<std::vector<std::string>> names = TracesIn(client, id, folder);
    if (!names.ok()) return Report(names.status());
    if (names->size() >= ranks || IsFinal(now->state())) {
      for (const std::string& name : *names) std::cout << job->output_dir() << "/" << name << "\n";
      if (names->size() >= ranks) return ExitCode::kOk;
      Report(absl::AbortedError(
          absl::StrCat(id, " has ended with traces of ", names->size(), " of ", ranks, " ranks")));
      return ExitCode::kJobFailed;
    }
    clock.SleepSeconds(kTraceLookSeconds);
    if (client.is_interrupted()) return Report(absl::CancelledError("interrupted"));
  }
}

}  // namespace

void AddProfileCommand(CLI::App& app, Program& program) {
  auto id = std::make_shared<std::string>();
  auto epochs = std::make_shared<int64_t>(1);
  CLI::App* command = app.add_subcommand(
      "profile", "Trace what each rank of a running job does, for Perfetto or chrome://tracing");
  command->add_option("ID", *id, "Job, as job-000001")->required();
  command->add_option("--epochs", *epochs, "So many whole epochs (default 1)")
      ->check(CLI::PositiveNumber);
  command->footer(
      "\nWaits until the epochs are over and prints where the traces lie on the service's host.\n"
      "\nExample: imageddpo profile job-000001 --epochs 2");
  command->callback([id, epochs, &program] {
    program.action = [id, epochs, &program] { return TraceEpochs(program, *id, *epochs); };
  });
}

}  // namespace imageddpo
