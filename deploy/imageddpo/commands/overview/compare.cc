#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "deploy/imageddpo/commands/overview/overview.h"
#include "deploy/imageddpo/text/comparison.h"

namespace imageddpo {
namespace {

constexpr int kPageSize = 500;

bool IsJobId(absl::string_view text) {
  return absl::ConsumePrefix(&text, "job-") && !text.empty() &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c); });
}

/// Whether it has the label KEY=VALUE, or belongs to the sweep NAME.
bool HasLabel(const v1::Job& job, const std::string& name) {
  const size_t equals = name.find('=');
  const std::string key = equals == std::string::npos ? kSweepLabel : name.substr(0, equals);
  const auto label = job.labels().find(key);
  return label != job.labels().end() &&
         label->second == (equals == std::string::npos ? name : name.substr(equals + 1));
}

absl::StatusOr<std::vector<ComparedJob>> Collect(Client& client,
                                                 const std::vector<std::string>& names) {
  std::vector<v1::Job> all;
  std::vector<ComparedJob> jobs;
  for (const std::string& name : names) {
    if (IsJobId(name)) {
      IMAGEDDPO_ASSIGN_OR_RETURN(jobs.emplace_back().job, client.GetJob(name));
      continue;
    }
    if (all.empty()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(all, AllJobs(client));
    }
    const size_t before = jobs.size();
    for (auto job = all.rbegin(); job != all.rend(); ++job) {  // The oldest first.
      if (HasLabel(*job, name)) jobs.push_back({*job, {}});
    }
    if (jobs.size() == before) {
      return absl::NotFoundError(absl::StrCat(
          "no job has the label ", name, "; give a job's id, the name of a sweep or KEY=VALUE"));
    }
  }
  for (ComparedJob& job : jobs) {
    IMAGEDDPO_ASSIGN_OR_RETURN(job.events, client.StoredEvents(job.job.id()));
  }
  return jobs;
}

ExitCode Compare(const Program& program, const std::vector<std::string>& names,
                 const std::string& output) {
  Client client = program.MakeClient();
  const absl::StatusOr<std::vector<ComparedJob>> jobs = Collect(client, names);
  if (!jobs.ok()) return Report(jobs.status());
  const std::vector<ComparedGroup> groups = CompareJobs(*jobs);
  std::cout << (output == "json"   ? ComparisonJson(groups)
                : output == "yaml" ? ComparisonYaml(groups)
                : output == "md"   ? ComparisonMarkdown(groups)
                                   : ComparisonTable(groups));
  return ExitCode::kOk;
}

}  // namespace

absl::StatusOr<std::vector<v1::Job>> AllJobs(Client& client) {
  std::vector<v1::Job> jobs;
  std::string page_token;
  do {
    IMAGEDDPO_ASSIGN_OR_RETURN(const v1::ListJobsResponse page,
                               client.ListJobs(kPageSize, page_token));
    jobs.insert(jobs.end(), page.jobs().begin(), page.jobs().end());
    page_token = page.next_page_token();
  } while (!page_token.empty());
  return jobs;
}

void AddCompareCommand(CLI::App& app, Program& program) {
  struct Options {
    std::vector<std::string> names;
    std::string output = "table";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "compare", "Compare jobs: settings that differ, rewards and evaluations, over their seeds");
  command->add_option("NAMES", options->names, "Names of sweeps, labels or jobs")
      ->type_name("LABEL|JOB")
      ->required();
  command->add_option("-o,--output", options->output, "table, json, yaml, or md for Markdown")
      ->check(CLI::IsMember({"table", "json", "yaml", "md"}));
  command->footer(
      "\nJobs that differ only in seed and name are one line: mean ± standard error over them.\n"
      "FINAL REWARD is the mean of the last 10 epochs, EVAL the newest evaluation.\n"
      "\nExamples: imageddpo compare rates\n"
      "          imageddpo compare job-000001 job-000002 -o md");
  command->callback([options, &program] {
    program.action = [options, &program] {
      return Compare(program, options->names, options->output);
    };
  });
}

}  // namespace imageddpo
