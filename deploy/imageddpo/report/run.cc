#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/report/subject.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/job_text.h"

namespace imageddpo {
namespace {

constexpr size_t kMostWarnings = 100;  ///< Of a table; the newest.

/// Samples that rewards have left out, as shares of all epochs' samples.
void AddDropped(const Subject& subject, Table* table) {
  std::map<std::string, double> sums;
  for (const v1::EpochMetrics& epoch : subject.history.epochs) {
    for (const auto& [part, mean] : epoch.parts_mean()) {
      if (absl::EndsWith(part, ".dropped")) sums[part] += mean;
    }
  }
  for (const auto& [part, sum] : sums) {
    if (sum <= 0) continue;
    const double share = sum / static_cast<double>(subject.history.epochs.size());
    table->rows.push_back(
        {"–", absl::StrFormat("%s: %.2g%% of the samples were left out", part, 100 * share)});
  }
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Section WrongSection(const Subject& subject) {
  Section section{.title = "What went wrong", .blocks = {}};
  Table table{.headings = {"when (UTC)", "what"}, .rows = {}};
  for (const v1::JobEvent& event : subject.report.events) {
    if (event.has_warning()) {
      table.rows.push_back({FormatTime(event.time()), event.warning().message()});
    } else if (event.has_state() && event.state().state() != v1::QUEUED &&
               !event.state().reason().empty()) {  // A job that waits for ranks is all right.
      table.rows.push_back({FormatTime(event.time()), absl::StrCat(StateName(event.state().state()),
                                                                   ": ", event.state().reason())});
    }
  }
  if (table.rows.size() > kMostWarnings) {
    section.blocks.emplace_back(Paragraph{.text = absl::StrCat("The newest ", kMostWarnings, " of ",
                                                               table.rows.size(), " entries.")});
    table.rows.erase(table.rows.begin(), table.rows.end() - kMostWarnings);
  }
  AddDropped(subject, &table);
  if (!subject.history.epochs.empty()) {
    const v1::EpochMetrics& newest = subject.history.epochs.back();
    if (newest.skipped_updates() > 0) {
      table.rows.push_back({"–", absl::StrCat(newest.skipped_updates(), " updates were skipped")});
    }
    if (newest.images_skipped() > 0) {
      table.rows.push_back(
          {"–", absl::StrCat(newest.images_skipped(), " images of data.path cannot be read")});
    }
  }
  if (table.rows.empty()) {
    section.blocks.emplace_back(Paragraph{
        .text = "Nothing: no warning, no restart, no sample left out, no update skipped."});
  } else {
    section.blocks.emplace_back(std::move(table));
  }
  return section;
}

Section CostSection(const Subject& subject) {
  Section section{.title = "What it cost", .blocks = {}};
  const v1::Job& job = subject.job;
  double seconds = 0;
  std::vector<double> speeds, shares;
  std::map<std::string, double> stages;
  for (const v1::EpochMetrics& epoch : subject.history.epochs) {
    seconds += epoch.epoch_seconds();
    speeds.push_back(epoch.images_per_second());
    shares.push_back(epoch.mfu());
    for (const auto& [stage, value] : epoch.stage_seconds()) stages[stage] += value;
  }
  Table table{.headings = {"", ""}, .rows = {}};
  table.rows = {{"from start to end", FormatSpan(job.start_time(), job.end_time())},
                {"epochs", absl::StrCat(EpochsText(subject), ", ", FormatDuration(seconds))},
                {"samples", absl::StrCat(job.progress().samples_seen())}};
  if (!subject.history.epochs.empty()) {
    table.rows.push_back({"images per second, median", FormatNumber(Median(speeds), 3)});
    table.rows.push_back(
        {"model FLOPs utilisation, median", absl::StrFormat("%.1f%%", 100 * Median(shares))});
  }
  for (const auto& [stage, value] : stages) {
    table.rows.push_back({absl::StrCat("stage ", stage), FormatDuration(value)});
  }
  table.rows.push_back({"resumed", absl::StrCat(job.resume_count(), " times")});
  section.blocks.emplace_back(std::move(table));
  section.blocks.emplace_back(
      Paragraph{.text = "Stages overlap: one rank waits while another samples. Epochs that ran "
                        "again after a resume count once."});
  return section;
}

Section AgainSection(const Subject& subject, const std::string& version) {
  Section section{.title = "Environment, and how to run it again", .blocks = {}};
  const v1::Job& job = subject.job;
  Table table{.headings = {"", ""}, .rows = {}};
  const auto add = [&table](const char* what, const std::string& value) {
    if (!value.empty()) table.rows.push_back({what, value});
  };
  add("state", StateName(job.state()));
  add("ran on", job.topology());
  add("seed", absl::StrCat(job.spec().seed()));
  add("precision", job.spec().model().precision());
  add("client", absl::StrCat("imageddpo ", version));
  add("created (UTC)", FormatTime(job.create_time()));
  add("folder on the service's host", job.output_dir());
  add("LoRA", job.lora_path());
  add("best LoRA", job.best_lora_path());
  section.blocks.emplace_back(std::move(table));
  section.blocks.emplace_back(
      Paragraph{.text = "Save the job file below and submit it: imageddpo submit job.yaml --watch. "
                        "The same settings give the same bits on any number of ranks of a kind."});
  section.blocks.emplace_back(Code{.title = "job.yaml", .text = JobAsFile(job)});
  return section;
}

}  // namespace imageddpo
