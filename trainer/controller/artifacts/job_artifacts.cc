#include "trainer/controller/artifacts/job_artifacts.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"
#include "common/config/job_config.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr char kMetricsName[] = "metrics.jsonl";
constexpr char kTimingsName[] = "timings.jsonl";

std::string EpochName(int64_t epoch) { return absl::StrFormat("epoch-%06d", epoch); }

/// Whether it is a complete JSON row of an epoch before `epoch`.
bool IsRowBefore(absl::string_view line, int64_t epoch) {
  const auto row =
      nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return false;
  const auto value = row.find("epoch");
  return value != row.end() && value->is_number_integer() && value->get<int64_t>() < epoch;
}

/// Contents are moved out.
std::vector<std::pair<std::string, std::string>> TakeFiles(
    google::protobuf::RepeatedPtrField<v1::NamedBytes>* pictures) {
  std::vector<std::pair<std::string, std::string>> files;
  for (v1::NamedBytes& picture : *pictures) {
    files.emplace_back(picture.name(), std::move(*picture.mutable_data()));
  }
  pictures->Clear();
  return files;
}

void KeepFirst(absl::Status* first, const absl::Status& status) {
  if (first->ok()) *first = status;
}

}  // namespace

JobArtifacts::JobArtifacts(FileSystem& file_system, std::string job_dir)
    : file_system_(file_system), directory_(std::move(job_dir)) {}

absl::Status JobArtifacts::Begin(const v1::JobSpec& spec) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, directory_));
  IMAGEDDPO_RETURN_IF_ERROR(RemoveTemporaries(file_system_, directory_));
  const std::string path = absl::StrCat(directory_, "/job.yaml");
  const std::string yaml = JobToYaml(spec);
  const absl::StatusOr<std::string> old = file_system_.Read(path);
  if (old.ok() && *old == yaml) return absl::OkStatus();  // A full disk must not stop a resume.
  return WriteFileAtomically(file_system_, path, yaml);
}

absl::Status JobArtifacts::CutBackTo(int64_t epoch) {
  unwritten_.clear();
  unwritten_evals_.clear();
  for (const char* name : {kMetricsName, kTimingsName}) {
    const std::string path = absl::StrCat(directory_, "/", name);
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, file_system_.Exists(path));
    if (!exists) continue;
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string old, file_system_.Read(path));
    std::string kept;
    for (const absl::string_view line : absl::StrSplit(old, '\n')) {
      if (IsRowBefore(line, epoch)) absl::StrAppend(&kept, line, "\n");
    }
    if (kept != old) IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(file_system_, path, kept));
  }
  return absl::OkStatus();
}

absl::Status JobArtifacts::TakeRowsOf(const std::string& other_job_dir, int64_t epoch) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, directory_));
  for (const char* name : {kMetricsName, kTimingsName}) {
    const std::string path = absl::StrCat(other_job_dir, "/", name);
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, file_system_.Exists(path));
    if (!exists) continue;
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string rows, file_system_.Read(path));
    IMAGEDDPO_RETURN_IF_ERROR(
        WriteFileAtomically(file_system_, absl::StrCat(directory_, "/", name), rows));
  }
  return CutBackTo(epoch);
}

absl::Status JobArtifacts::AppendRows(const std::string& name, std::string_view rows) {
  std::string& text = unwritten_[name];
  text.append(rows);
  if (text.empty()) return absl::OkStatus();
  const absl::Status status = file_system_.Append(absl::StrCat(directory_, "/", name), text);
  if (!status.ok()) {
    return Annotate(status, "the rows are kept and written as soon as it works");
  }
  text.clear();
  return absl::OkStatus();
}

absl::Status JobArtifacts::WriteEpoch(const v1::EpochReport& report) {
  std::string rows;
  for (const std::string& row : report.metrics_rows()) {
    absl::StrAppend(&rows, absl::StripTrailingAsciiWhitespace(row), "\n");
  }
  std::string timings;
  if (!report.timings_row().empty()) {
    timings = absl::StrCat(absl::StripTrailingAsciiWhitespace(report.timings_row()), "\n");
  }
  absl::Status result;
  KeepFirst(&result, AppendRows(kMetricsName, rows));
  KeepFirst(&result, AppendRows(kTimingsName, timings));
  return result;
}

absl::Status JobArtifacts::WriteEval(const v1::EvalReport& report) {
  unwritten_evals_[report.epoch()] = report.rows();
  return WriteUnwrittenEvals();
}

absl::Status JobArtifacts::WriteUnwrittenEvals() {
  if (unwritten_evals_.empty()) return absl::OkStatus();
  const std::string folder = absl::StrCat(directory_, "/eval");
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, folder));
  IMAGEDDPO_RETURN_IF_ERROR(RemoveTemporaries(file_system_, folder));
  while (!unwritten_evals_.empty()) {
    const auto& [epoch, rows] = *unwritten_evals_.begin();
    const std::string path = absl::StrCat(folder, "/", EpochName(epoch), ".jsonl");
    IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(file_system_, path, rows));
    unwritten_evals_.erase(unwritten_evals_.begin());
  }
  return absl::OkStatus();
}

ArtifactWriter::Folder JobArtifacts::TakePictures(v1::EpochReport* report) const {
  return {report->job_id(),
          absl::StrCat(directory_, "/samples/", EpochName(report->metrics().epoch())),
          TakeFiles(report->mutable_pictures())};
}

ArtifactWriter::Folder JobArtifacts::TakePictures(v1::EvalReport* report) const {
  return {report->job_id(), absl::StrCat(directory_, "/eval/", EpochName(report->epoch())),
          TakeFiles(report->mutable_pictures())};
}

bool JobArtifacts::AllWritten() const {
  return unwritten_evals_.empty() &&
         std::all_of(unwritten_.begin(), unwritten_.end(),
                     [](const auto& entry) { return entry.second.empty(); });
}

absl::Status JobArtifacts::SyncRows() {
  IMAGEDDPO_RETURN_IF_ERROR(WriteUnwrittenEvals());
  for (const char* name : {kMetricsName, kTimingsName}) {
    IMAGEDDPO_RETURN_IF_ERROR(AppendRows(name, ""));
    IMAGEDDPO_RETURN_IF_ERROR(SyncFile(absl::StrCat(directory_, "/", name)));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
