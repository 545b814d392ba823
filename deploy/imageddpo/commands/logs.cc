#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

constexpr double kRetrySeconds = 0.5;

struct LogsOptions {
  std::string id;
  bool follow = false;
  int rank = -1;  ///< -1: of every rank.
  std::string level;
  int64_t tail = 0;
  std::string since;
  std::string output = "text";
  double wait_seconds = 600;
};

std::string TimeOf(const v1::LogLine& line) {
  const absl::Time time =
      absl::FromUnixSeconds(line.time().seconds()) + absl::Nanoseconds(line.time().nanos());
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

void Print(const v1::LogLine& line, bool is_json) {
  if (is_json) {
    const nlohmann::ordered_json row = {{"time", TimeOf(line)},
                                        {"level", line.level()},
                                        {"rank", line.rank()},
                                        {"message", line.message()}};
    std::cout << PrintableJson(row.dump()) << "\n";
  } else {
    std::cout << TimeOf(line) << " " << Printable(line.level()) << " rank " << line.rank() << ": "
              << Printable(line.message()) << "\n";
  }
}

absl::StatusOr<v1::StreamLogsRequest> RequestOf(const LogsOptions& options) {
  v1::StreamLogsRequest request;
  request.set_id(options.id);
  if (options.rank >= 0) request.set_rank(options.rank);
  request.set_min_level(options.level);
  request.set_tail(options.tail);
  request.set_follow(options.follow);
  if (!options.since.empty()) {
    absl::Duration ago;
    absl::Time since;
    std::string error;
    if (absl::ParseDuration(options.since, &ago)) {
      since = absl::Now() - ago;
    } else if (!absl::ParseTime(absl::RFC3339_full, options.since, &since, &error)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--since ", options.since, ": give 10m, 1h30m or a time as 2026-01-31T08:15:30Z"));
    }
    request.mutable_since()->set_seconds(absl::ToUnixSeconds(since));
    request.mutable_since()->set_nanos(static_cast<int32_t>(
        absl::ToUnixNanos(since) - absl::ToUnixSeconds(since) * 1'000'000'000));
  }
  return request;
}

ExitCode ShowLogs(const Program& program, const LogsOptions& options) {
  absl::StatusOr<v1::StreamLogsRequest> request = RequestOf(options);
  if (!request.ok()) return Report(request.status());
  Client client = program.MakeClient();
  SystemClock clock;
  double alive_s = clock.NowSeconds();
  bool is_away = false;
  while (true) {
    const absl::Status status = client.Read<v1::StreamLogsRequest, v1::StreamLogsResponse>(
        &Client::Stub::StreamLogs, *request, [&](v1::StreamLogsResponse& response) {
          for (const v1::LogLine& line : response.lines()) Print(line, options.output == "json");
          std::cout << std::flush;
          if (!response.cursor().empty()) request->set_cursor(response.cursor());
          alive_s = clock.NowSeconds();
          is_away = false;
          return absl::OkStatus();
        });
    if (absl::IsCancelled(status) && options.follow) return ExitCode::kInterrupted;
    const bool again = absl::IsUnavailable(status) && options.follow &&
                       clock.NowSeconds() - alive_s < options.wait_seconds;
    if (!again) return Report(status);
    if (!is_away) {
      std::cerr << "The connection to the service is lost; waiting up to "
                << FormatDuration(options.wait_seconds) << " for it to come back." << std::endl;
    }
    is_away = true;
    clock.SleepSeconds(kRetrySeconds);
  }
}

}  // namespace

void AddLogsCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<LogsOptions>();
  CLI::App* command = app.add_subcommand("logs", "Show what the ranks of a job have logged");
  command->add_option("ID", options->id, "Job, as job-000001")->required();
  command->add_flag("-f,--follow", options->follow,
                    "Stay and show new lines until the job has ended, also over restarts of the "
                    "service");
  command->add_option("--rank", options->rank, "Lines of this rank alone")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--level", options->level, "Lines of this level and worse ones")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical"}));
  command
      ->add_option("--tail", options->tail,
                   "Begin with the last so many lines, at most 1000 (default: all)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--since", options->since, "Lines from then on: 10m ago, or a time in UTC")
      ->type_name("DURATION|TIME");
  command->add_option("-o,--output", options->output, "text, or json: an object for each line")
      ->check(CLI::IsMember({"text", "json"}));
  command
      ->add_option("--wait", options->wait_seconds, "Seconds to wait for a service that went away")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "\nExamples: imageddpo logs job-000001 -f --tail 100\n"
      "          imageddpo logs job-000001 --rank 2 --level warning");
  command->callback([options, &program] {
    program.action = [options, &program] { return ShowLogs(program, *options); };
  });
}

}  // namespace imageddpo
