#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/overview/overview.h"
#include "deploy/imageddpo/text/cluster_text.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/job_text.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {
namespace {

constexpr char kToTop[] = "\x1b[H";        // Then each line replaces an old one,
constexpr char kEndOfLine[] = "\x1b[K\n";  // without what the old one had more,
constexpr char kClearBelow[] = "\x1b[J";   // and older lines below go away.
constexpr char kOtherScreen[] = "\x1b[?1049h";
constexpr char kBackToScreen[] = "\x1b[?1049l";
constexpr int kNewestJobs = 100;
constexpr double kLookSeconds = 0.1;

struct TopOptions {
  bool once = false;
  double interval_seconds = 2;
};

absl::StatusOr<std::string> Look(Client& client) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Cluster cluster,
                             client.Call(&Client::Stub::GetCluster, v1::GetClusterRequest()));
  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::ListJobsResponse page, client.ListJobs(kNewestJobs, ""));
  std::vector<v1::Job> jobs;
  std::copy_if(page.jobs().begin(), page.jobs().end(), std::back_inserter(jobs),
               [](const v1::Job& job) { return !IsFinal(job.state()); });
  std::string text = absl::StrCat(ClusterTable(cluster), "\n");
  absl::StrAppend(&text, jobs.empty() ? "No job runs or waits.\n" : JobTable(jobs));
  for (const v1::Job& job : jobs) {
    if (job.state_reason().empty()) continue;
    absl::StrAppend(&text, Printable(job.id()), ": ", OneLine(job.state_reason()), "\n");
  }
  return text;
}

/// The text in place of what the terminal shows; lines that are too long are cut.
void Draw(const std::string& text) {
  std::cout << kToTop;
  const size_t width = Screen::TerminalWidth();
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    std::cout << Truncate(text.substr(begin, end - begin), width) << kEndOfLine;
  }
  std::cout << kClearBelow << std::flush;
}

ExitCode ShowTop(const Program& program, const TopOptions& options) {
  Client client = program.MakeClient();
  if (options.once || isatty(STDOUT_FILENO) != 1) {
    const absl::StatusOr<std::string> text = Look(client);
    if (!text.ok()) return Report(text.status());
    std::cout << *text;
    return ExitCode::kOk;
  }
  SystemClock clock;
  absl::Status end;
  std::cout << kOtherScreen;
  while (!client.is_interrupted()) {
    const absl::StatusOr<std::string> text = Look(client);
    const bool is_away =
        absl::IsUnavailable(text.status()) || absl::IsDeadlineExceeded(text.status());
    if (!text.ok() && !is_away) {
      end = text.status();
      break;
    }
    Draw(text.ok() ? *text : absl::StrCat(Printable(std::string(text.status().message())), "\n"));
    const double until_s = clock.NowSeconds() + options.interval_seconds;
    while (clock.NowSeconds() < until_s && !client.is_interrupted()) {
      clock.SleepSeconds(kLookSeconds);
    }
  }
  std::cout << kBackToScreen << std::flush;
  return end.ok() || client.is_interrupted() ? ExitCode::kOk : Report(end);
}

}  // namespace

void AddTopCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand(
      "top", "Show the ranks and the jobs that run or wait, live; Ctrl-C ends it");
  command->add_flag("--once", options->once, "Show them once, as where the output is no terminal");
  command->add_option("--interval", options->interval_seconds, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0));
  command->footer("\nExample: imageddpo top");
  command->callback([options, &program] {
    program.action = [options, &program] { return ShowTop(program, *options); };
  });
}

}  // namespace imageddpo
