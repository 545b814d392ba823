#include <algorithm>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/commands/commands.h"

namespace imageddpo {
namespace {

constexpr double kAskSeconds = 0.5;

struct WaitOptions {
  std::string id;
  std::string state = "SUCCEEDED";
  std::string timeout = "inf";
};

/// Asks for the job until it is in the state, or cannot come to it by itself.
ExitCode WaitForState(const Program& program, const WaitOptions& options) {
  v1::JobState wanted = v1::JOB_STATE_UNSPECIFIED;
  absl::Duration timeout;
  if (!v1::JobState_Parse(absl::AsciiStrToUpper(options.state), &wanted)) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat("--for ", options.state,
                     ": no state of a job; give RUNNING, PAUSED, "
                     "SUCCEEDED, FAILED, CANCELLED or another one of docs/control_plane.md")));
  }
  if (!absl::ParseDuration(options.timeout, &timeout) || timeout < absl::ZeroDuration()) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat("--timeout ", options.timeout, ": no duration; give 90s, 10m or 1h30m")));
  }
  Client client = program.MakeClient();
  SystemClock clock;
  const double deadline_s = clock.NowSeconds() + absl::ToDoubleSeconds(timeout);
  while (true) {
    const absl::StatusOr<v1::Job> job = client.GetJob(options.id);
    const bool is_away =
        absl::IsUnavailable(job.status()) || absl::IsDeadlineExceeded(job.status());
    if (!job.ok() && !is_away) return Report(job.status());
    if (job.ok() && (job->state() == wanted || IsFinal(job->state()))) {
      std::cout << job->id() << " " << StateName(job->state()) << "\n";
      if (job->state() == wanted) return ExitCode::kOk;
      Report(absl::AbortedError(absl::StrCat(job->id(), " has ended and will not be ",
                                             options.state, ": ", job->state_reason())));
      return ExitCode::kJobFailed;
    }
    if (clock.NowSeconds() >= deadline_s) {
      return Report(absl::DeadlineExceededError(
          job.ok() ? absl::StrCat(job->id(), " is ", StateName(job->state()), " after ",
                                  options.timeout, ", not ", options.state)
                   : std::string(job.status().message())));
    }
    clock.SleepSeconds(std::clamp(deadline_s - clock.NowSeconds(), 0.0, kAskSeconds));
    if (client.is_interrupted()) return Report(absl::CancelledError("interrupted"));
  }
}

}  // namespace

void AddWaitCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<WaitOptions>();
  CLI::App* command = app.add_subcommand(
      "wait", "Wait quietly until a job is in a state, also over restarts of the service");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command->add_option("--for", options->state, "The state (default SUCCEEDED)")->type_name("STATE");
  command->add_option("--timeout", options->timeout, "At most so long, as 10m (default: no limit)")
      ->type_name("DURATION");
  command->footer(
      "\nExit codes: 0 the job is in the state; 1 it has ended in another one; 4 not in time.\n"
      "\nExample: imageddpo wait job-000001 --for PAUSED --timeout 10m");
  command->callback([options, &program] {
    program.action = [options, &program] { return WaitForState(program, *options); };
  });
}

}  // namespace imageddpo
