#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_text.h"

namespace imageddpo {
namespace {

constexpr int kPageSize = 100;

struct ListOptions {
  int limit = 50;
  std::string output = "table";
};

ExitCode List(const Program& program, const ListOptions& options) {
  Client client = program.MakeClient();
  std::vector<v1::Job> jobs;
  std::string page_token;
  bool is_more = true;
  while (is_more) {
    const int wanted =
        options.limit == 0 ? kPageSize : options.limit - static_cast<int>(jobs.size());
    const absl::StatusOr<v1::ListJobsResponse> page =
        client.ListJobs(std::min(kPageSize, wanted), page_token);
    if (!page.ok()) return Report(page.status());
    jobs.insert(jobs.end(), page->jobs().begin(), page->jobs().end());
    page_token = page->next_page_token();
    is_more = !page_token.empty() &&
              (options.limit == 0 || static_cast<int>(jobs.size()) < options.limit);
  }
  if (options.output == "name") {
    for (const v1::Job& job : jobs) std::cout << Printable(job.id()) << "\n";
  } else if (options.output == "yaml") {
    for (const v1::Job& job : jobs) std::cout << "---\n" << JobAsFile(job);
  } else {
    std::cout << (options.output == "json" ? JobsToJson(jobs) : JobTable(jobs));
  }
  if (!page_token.empty() && options.output == "table") {
    std::cout << "There are older ones: --limit 0 shows all.\n";
  }
  return ExitCode::kOk;
}

}  // namespace

void AddListCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = app.add_subcommand("list", "List jobs, newest first");
  command->add_option("--limit", options->limit, "At most so many (default 50); 0: all")
      ->check(CLI::Range(0, 1'000'000));
  command
      ->add_option("-o,--output", options->output,
                   "table; json; yaml: a job file each; name: the ids")
      ->check(CLI::IsMember({"table", "json", "yaml", "name"}));
  command->footer("\nExample: imageddpo list --limit 10");
  command->callback([options, &program] {
    program.action = [options, &program] { return List(program, *options); };
  });
}

}  // namespace imageddpo
