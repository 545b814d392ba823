#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_states.h"
#include "common/io/file.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/client/submit_job.h"
#include "deploy/imageddpo/commands/overview/overview.h"

namespace imageddpo {
namespace {

constexpr size_t kMostJobs = 1000;
constexpr size_t kMostOfName = 50;  // Of the 64 characters that a name may have.

struct SweepOptions {
  std::string file;
  std::vector<std::string> grids;
  std::vector<std::string> settings;
  int seeds = 1;
  std::string label;
  int32_t priority = 0;
  bool dry_run = false;
};

/// One job of the sweep.
struct Planned {
  std::vector<std::string> settings;  ///< In which it differs from the others.
  v1::SubmitJobRequest request;
};

/// The parts between commas that stand in no bracket and no quotes.
std::vector<std::string> ValuesOf(absl::string_view text) {
  std::vector<std::string> values(1);
  int depth = 0;
  char quote = 0;
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',' && depth == 0) {
      values.emplace_back();
      continue;
    }
    values.back().push_back(c);
  }
  return values;
}

/// All jobs, each judged: nothing is sent unless all can run.
absl::StatusOr<std::vector<Planned>> PlanSweep(const SweepOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob base, LoadJobFile(options.file, options.settings));
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto combinations, GridOf(options.grids));
  if (combinations.size() * static_cast<size_t>(options.seeds) > kMostJobs) {
    return absl::InvalidArgumentError(absl::StrCat("these are more than ", kMostJobs, " jobs"));
  }
  std::vector<Planned> planned;
  for (const std::vector<std::string>& combination : combinations) {
    for (int i = 0; i < options.seeds; ++i) {
      Planned& one = planned.emplace_back();
      one.settings = combination;
      if (options.seeds > 1) {
        one.settings.push_back(
            absl::StrCat("seed=", base.spec().seed() + static_cast<uint64_t>(i)));
      }
      std::vector<std::string> settings = options.settings;
      settings.insert(settings.end(), one.settings.begin(), one.settings.end());
      settings.push_back(
          absl::StrCat("name=", base.spec().name().substr(0, kMostOfName), "-", planned.size()));
      const absl::StatusOr<ResolvedJob> job = LoadJobFile(options.file, settings);
      if (!job.ok()) return Annotate(job.status(), absl::StrJoin(one.settings, " "));
      *one.request.mutable_job() = job->submitted();
      one.request.set_priority(options.priority);
      (*one.request.mutable_labels())[kSweepLabel] = options.label;
      // The same sweep again submits what is missing.
      one.request.set_request_id(absl::StrCat(
          "sweep-",
          Sha256Hex(absl::StrCat(options.label, "\n", one.request.job().SerializeAsString()))));
    }
  }
  return planned;
}

ExitCode RunSweep(const Program& program, const SweepOptions& options) {
  const absl::StatusOr<std::vector<Planned>> planned = PlanSweep(options);
  if (!planned.ok()) return Report(planned.status());
  Client client = program.MakeClient();
  for (const Planned& one : *planned) {
    const std::string settings = Printable(absl::StrJoin(one.settings, " "));
    if (options.dry_run) {
      std::cout << Printable(one.request.job().name()) << "  " << settings << "\n";
      continue;
    }
    const absl::StatusOr<v1::Job> job = SubmitOnce(client, one.request);
    if (!job.ok()) {
      std::cerr << "Submitted until here; the same command again submits the rest.\n";
      return Report(job.status());
    }
    std::cout << job->id() << " " << StateName(job->state()) << "  " << settings << std::endl;
  }
  if (options.dry_run) {
    std::cout << planned->size() << " jobs; nothing was submitted\n";
  } else {
    std::cout << planned->size() << " jobs. Compare them: imageddpo compare "
              << Printable(options.label) << "\n";
  }
  return ExitCode::kOk;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<std::string>>> GridOf(
    const std::vector<std::string>& grids) {
  std::vector<std::vector<std::string>> combinations(1);
  for (const std::string& grid : grids) {
    const size_t equals = grid.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == grid.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--grid ", grid, ": give SETTING=VALUE,VALUE as train.learning_rate=1e-4,3e-4"));
    }
    std::vector<std::vector<std::string>> longer;
    for (const std::vector<std::string>& combination : combinations) {
      for (const std::string& value : ValuesOf(absl::string_view(grid).substr(equals + 1))) {
        longer.push_back(combination);
        longer.back().push_back(absl::StrCat(grid.substr(0, equals), "=", value));
      }
    }
    if (longer.size() > kMostJobs) {
      return absl::InvalidArgumentError(
          absl::StrCat("--grid: these are more than ", kMostJobs, " combinations"));
    }
    combinations = std::move(longer);
  }
  return combinations;
}

void AddSweepCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App* command = app.add_subcommand(
      "sweep", "Submit a job file with every combination of settings and several seeds");
  command->add_option("FILE", options->file, "Job file, YAML or JSON")->required();
  command
      ->add_option("--grid", options->grids, "Values of a setting (repeatable: every combination)")
      ->type_name("SETTING=VALUE,VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--seeds", options->seeds,
                   "How many seeds each combination has, from the file's one upwards (default 1)")
      ->check(CLI::Range(1, 1000));
  command
      ->add_option("--label", options->label,
                   "Name of the sweep; its jobs have the label sweep=NAME")
      ->type_name("NAME")
      ->required();
  command->add_option("--set", options->settings, "Setting on top of the file (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command->add_option("--priority", options->priority, "Of its jobs (default 0)")->type_name("INT");
  command->add_flag("--dry-run", options->dry_run, "Check and show the jobs, and submit nothing");
  command->footer(
      "\nThe same command again submits only the jobs that are missing.\n"
      "\nExample: imageddpo sweep my-job.yaml --grid train.learning_rate=1e-4,3e-4 --seeds 3 "
      "--label rates");
  command->callback([options, &program] {
    program.action = [options, &program] { return RunSweep(program, *options); };
  });
}

}  // namespace imageddpo
