#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "common/io/image.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/commands/evaluation.h"
#include "deploy/imageddpo/report/report.h"

namespace imageddpo {
namespace {

constexpr int kLongestSide = 256;  ///< Of a picture in a report, in pixels.

struct ReportOptions {
  std::vector<std::string> ids;
  std::string output;
  int pictures = 8;
};

/// A picture of an evaluation as it goes into a report; empty where there is none.
absl::StatusOr<std::string> ReadPicture(Client& client, const v1::Job& job,
                                        const std::string& name) {
  const absl::StatusOr<std::string> file = ReadEvalFile(client, job, name);
  if (absl::IsNotFound(file.status())) return "";
  IMAGEDDPO_RETURN_IF_ERROR(file.status());
  absl::StatusOr<Image> image = DecodeImage(*file, name);
  if (!image.ok()) return "";
  const int longest = std::max(image->width, image->height);
  if (longest > kLongestSide) {
    const double scale = static_cast<double>(kLongestSide) / longest;
    *image = Resize(*image, std::max(1, static_cast<int>(image->width * scale)),
                    std::max(1, static_cast<int>(image->height * scale)), ResizeFilter::kLanczos);
  }
  return EncodePng(*image).value_or("");
}

std::string EpochName(int64_t epoch) { return absl::StrFormat("epoch-%06d", epoch); }

struct EvalRow {
  std::string id;
  std::optional<double> reward;
};

/// The rows of an evaluation, one an image: with several seeds those of the first.
absl::StatusOr<std::vector<EvalRow>> ReadRows(Client& client, const v1::Job& job, int64_t epoch) {
  const absl::StatusOr<std::string> text = ReadEvalFile(client, job, EpochName(epoch) + ".jsonl");
  std::vector<EvalRow> rows;
  if (absl::IsNotFound(text.status())) return rows;
  IMAGEDDPO_RETURN_IF_ERROR(text.status());
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const auto row = nlohmann::json::parse(line.begin(), line.end(), nullptr,
                                           /*allow_exceptions=*/false);
    if (!row.is_object()) return rows;
    if (row.contains("seed") && row["seed"] != 0) continue;
    EvalRow& added = rows.emplace_back();
    const auto id = row.find("id");
    if (id != row.end() && id->is_string()) added.id = id->get<std::string>();
    const auto reward = row.find("reward");
    if (reward != row.end() && reward->is_number()) added.reward = reward->get<double>();
  }
  return rows;
}

/// The first images of the first and the newest evaluation.
absl::Status AddPictures(Client& client, int most, JobReport* report) {
  const v1::Job& job = report->job;
  std::vector<int64_t> epochs;
  for (const v1::JobEvent& event : report->events) {
    if (event.has_eval()) epochs.push_back(event.eval().epoch());
  }
  if (epochs.empty() || job.spec().eval().num_pictures() == 0) {
    report->pictures_note =
        "There are none: the job keeps pictures of held-out images with "
        "eval.path and eval.num_pictures.";
    return absl::OkStatus();
  }
  const auto [first, last] = std::minmax_element(epochs.begin(), epochs.end());
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<EvalRow> before, ReadRows(client, job, *first));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<EvalRow> after, ReadRows(client, job, *last));
  const int64_t count = std::min<int64_t>(most, job.spec().eval().num_pictures());
  for (int64_t i = 0; i < count; ++i) {
    const std::string stem = absl::StrCat("/", i);
    BeforeAfter picture;
    for (const auto& [target, epoch, suffix] : {std::tuple(&picture.input, *first, "-input.png"),
                                                std::tuple(&picture.before, *first, "-output.png"),
                                                std::tuple(&picture.after, *last, "-output.png")}) {
      if (target == &picture.after && *last == *first) continue;
      IMAGEDDPO_ASSIGN_OR_RETURN(
          *target, ReadPicture(client, job, absl::StrCat(EpochName(epoch), stem, suffix)));
    }
    if (picture.input.empty() && picture.before.empty() && picture.after.empty()) break;
    const auto index = static_cast<size_t>(i);
    picture.label = index < before.size() ? before[index].id : absl::StrCat(i);
    if (index < before.size()) picture.reward_before = before[index].reward;
    if (*last != *first && index < after.size()) picture.reward_after = after[index].reward;
    report->pictures.push_back(std::move(picture));
  }
  report->pictures_note =
      report->pictures.empty()
          ? "The service no longer has the files of its evaluations."
          : absl::StrCat("The first held-out images, not chosen by their rewards: after ", *first,
                         " and after ", *last, " epochs, under the same noise.");
  return absl::OkStatus();
}

absl::StatusOr<JobReport> ReadJob(Client& client, const std::string& id, int pictures) {
  JobReport report;
  IMAGEDDPO_ASSIGN_OR_RETURN(report.job, client.GetJob(id));
  IMAGEDDPO_ASSIGN_OR_RETURN(report.events, client.StoredEvents(id));
  IMAGEDDPO_RETURN_IF_ERROR(AddPictures(client, pictures, &report));
  return report;
}

ExitCode WriteReport(const Program& program, const ReportOptions& options) {
  const bool is_markdown = absl::EndsWith(options.output, ".md");
  if (!is_markdown && !absl::EndsWith(options.output, ".html")) {
    return Report(absl::InvalidArgumentError(absl::StrCat(
        "-o ", options.output, ": the name has to end in .html or .md, which says what to write")));
  }
  Client client = program.MakeClient();
  std::vector<JobReport> reports;
  for (const std::string& id : options.ids) {
    absl::StatusOr<JobReport> report = ReadJob(client, id, options.pictures);
    if (!report.ok()) return Report(report.status());
    reports.push_back(*std::move(report));
  }
  const Document document = ComposeReport(reports, program.version);
  const absl::Status written = WriteFileAtomically(
      options.output, is_markdown ? RenderMarkdown(document) : RenderHtml(document));
  if (!written.ok()) return Report(written);
  std::cout << Printable(options.output) << "\n";
  return ExitCode::kOk;
}

}  // namespace

void AddReportCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report",
      "Write what a job did into one file: settings, whether it learned, curves, "
      "pictures, cost; several jobs are compared");
  command->add_option("JOB", options->ids, "Jobs, as job-000001")->required();
  command->add_option("-o,--output", options->output, "FILE.html, or FILE.md for a pull request")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--pictures", options->pictures, "Held-out images to show (default 8; 0: none)")
      ->check(CLI::Range(0, 100));
  command->footer("\nExample: imageddpo report job-000001 job-000002 -o report.html");
  command->callback([options, &program] {
    program.action = [options, &program] { return WriteReport(program, *options); };
  });
}

}  // namespace imageddpo
