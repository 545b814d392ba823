#include "trainer/controller/tensorboard/tensorboard_log.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "common/metrics/epoch_metrics.h"
#include "trainer/controller/tensorboard/record.h"

namespace imageddpo {
namespace {

using v1::tensorboard::Event;
using v1::tensorboard::Summary;

constexpr char kPrefix[] = "events.out.tfevents.";
constexpr char kVersion[] = "brain.Event:2";
constexpr int64_t kLongestSide = 1 << 20;
constexpr int32_t kTensorClass = 2, kFloatType = 1;
constexpr int kMostPictures = 16;  ///< Of an epoch or evaluation; all are in the job's folder.

void AddScalar(const std::string& tag, double value, Summary* summary) {
  Summary::Value* const added = summary->add_value();
  added->set_tag(tag);
  added->set_simple_value(static_cast<float>(value));
}

/// Protobuf's text format has words in quotation marks.
std::string Unquoted(const std::string& text) {
  const bool quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  return quoted ? text.substr(1, text.size() - 2) : text;
}

/// Width and height of a PNG; 0 of anything else.
std::pair<int64_t, int64_t> SizeOfPng(std::string_view png) {
  constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
  if (png.size() < 24 || png.substr(0, 8) != kSignature) return {0, 0};
  const auto number = [png](size_t at) {
    int64_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value * 256 + static_cast<unsigned char>(png[i]);
    return value;
  };
  return {number(16), number(20)};
}

/// The number in the name of an event file; -1 of another one.
int64_t NumberOf(absl::string_view name) {
  int64_t number = -1;
  if (!absl::ConsumePrefix(&name, kPrefix)) return -1;
  return absl::SimpleAtoi(name.substr(0, name.find('.')), &number) ? number : -1;
}

}  // namespace

TensorBoardLog::TensorBoardLog(FileSystem& file_system, const Clock& clock, std::string job_dir,
                               int64_t updates_per_epoch,
                               std::map<std::string, std::string> settings)
    : file_system_(file_system),
      clock_(clock),
      job_dir_(std::move(job_dir)),
      folder_(absl::StrCat(job_dir_, "/tensorboard")),
      updates_per_epoch_(updates_per_epoch),
      settings_(std::move(settings)) {}

absl::Status TensorBoardLog::ContinueFrom(int64_t epoch) {
  pending_.clear();
  int64_t newest = -1;
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, file_system_.Exists(folder_));
  if (exists) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.List(folder_));
    for (const std::string& name : names) newest = std::max(newest, NumberOf(name));
  }
  // TensorBoard reads files in the order of their names, whatever the clock does.
  const int64_t number = std::max(static_cast<int64_t>(clock_.UnixSeconds()), newest + 1);
  file_ = absl::StrFormat("%s/%s%010d.imageddpo", folder_, kPrefix, number);
  Event version;
  version.set_file_version(kVersion);
  pending_ += RecordOf(std::move(version), 0);
  if (newest >= 0) {
    Event start;
    start.mutable_session_log()->set_status(v1::tensorboard::SessionLog::START);
    pending_ += RecordOf(std::move(start), epoch * updates_per_epoch_);
    AddSettings();
    return absl::OkStatus();
  }
  AddSettings();
  const std::string rows_file = absl::StrCat(job_dir_, "/metrics.jsonl");
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool has_rows, file_system_.Exists(rows_file));
  if (!has_rows) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string rows, file_system_.Read(rows_file));
  for (const absl::string_view row : absl::StrSplit(rows, '\n', absl::SkipEmpty())) {
    AddRow({row.data(), row.size()});
  }
  return absl::OkStatus();
}

std::string TensorBoardLog::RecordOf(Event event, int64_t step) const {
  event.set_wall_time(clock_.UnixSeconds());
  event.set_step(step);
  return TfRecord(event.SerializeAsString());
}

void TensorBoardLog::AddSummary(const Summary& summary, int64_t step) {
  if (summary.value().empty()) return;
  Event event;
  *event.mutable_summary() = summary;
  pending_ += RecordOf(std::move(event), step);
}

void TensorBoardLog::AddSettings() {
  if (settings_.empty()) return;
  v1::tensorboard::HparamsData data;
  for (const auto& [name, text] : settings_) {
    google::protobuf::Value& value = (*data.mutable_session_start_info()->mutable_hparams())[name];
    double number = 0;
    if (text == "true" || text == "false") {
      value.set_bool_value(text == "true");
    } else if (absl::SimpleAtod(text, &number)) {
      value.set_number_value(number);
    } else {
      value.set_string_value(Unquoted(text));
    }
  }
  Summary summary;
  Summary::Value& added = *summary.add_value();
  added.set_tag("_hparams_/session_start_info");
  added.mutable_metadata()->mutable_plugin_data()->set_plugin_name("hparams");
  added.mutable_metadata()->mutable_plugin_data()->set_content(data.SerializeAsString());
  added.mutable_metadata()->set_data_class(kTensorClass);
  added.mutable_tensor()->set_dtype(
      kFloatType);  // Without values: all there is to say stands above.
  added.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(0);
  AddSummary(summary, 0);
}

void TensorBoardLog::AddRow(std::string_view text) {
  const auto row = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return;
  const auto update = row.find("update");
  if (update == row.end() || !update->is_number_integer()) return;
  Summary summary;
  for (const auto& [key, value] : row.items()) {
    if (key == "update") continue;  // The step.
    if (value.is_boolean()) {
      AddScalar(absl::StrCat("train/", key), value.get<bool>() ? 1 : 0, &summary);
    } else if (value.is_number()) {
      AddScalar(absl::StrCat("train/", key), value.get<double>(), &summary);
    } else if (value.is_object()) {
      for (const auto& [name, part] : value.items()) {
        if (part.is_number()) {
          AddScalar(absl::StrCat(key, "/", name), part.get<double>(), &summary);
        }
      }
    }
  }
  AddSummary(summary, update->get<int64_t>());
}

TensorBoardLog::File TensorBoardLog::FileOf(
    const std::string& name, int64_t step,
    const google::protobuf::RepeatedPtrField<v1::NamedBytes>& pictures) const {
  Event event, version;
  version.set_file_version(kVersion);
  for (const v1::NamedBytes& picture : pictures) {
    const auto [width, height] = SizeOfPng(picture.data());
    if (width <= 0 || height <= 0 || std::max(width, height) > kLongestSide) continue;
    if (event.summary().value_size() == kMostPictures) break;
    Summary::Value* const added = event.mutable_summary()->add_value();
    added->set_tag(std::string(absl::StripSuffix(picture.name(), ".png")));
    added->mutable_image()->set_width(static_cast<int32_t>(width));
    added->mutable_image()->set_height(static_cast<int32_t>(height));
    added->mutable_image()->set_colorspace(3);
    added->mutable_image()->set_encoded_image_string(picture.data());
  }
  File file{.directory = absl::StrCat(folder_, "/", name),
            .name = absl::StrFormat("%s%010d.imageddpo", kPrefix, step),
            .content = ""};
  if (event.has_summary()) {
    file.content = RecordOf(std::move(version), 0) + RecordOf(std::move(event), step);
  }
  return file;
}

TensorBoardLog::File TensorBoardLog::SamplesFile(const v1::EpochReport& report) const {
  return FileOf("samples", LastUpdateOf(report.metrics().epoch()), report.pictures());
}

TensorBoardLog::File TensorBoardLog::EvalFile(const v1::EvalReport& report) const {
  return FileOf("eval", report.epoch() * updates_per_epoch_, report.pictures());
}

absl::Status TensorBoardLog::WriteEpoch(const v1::EpochReport& report) {
  for (const std::string& row : report.metrics_rows()) AddRow(row);
  Summary summary;
  for (const EpochMetric& metric : EpochMetricTable()) {
    if (metric.aggregate != Aggregate::kOfEpoch) continue;
    ForEachValue(report.metrics(), metric, [&](const std::string& label, double value) {
      const std::string field(metric.field);
      AddScalar(label.empty() ? absl::StrCat("epoch/", field) : absl::StrCat(field, "/", label),
                value, &summary);
    });
  }
  AddSummary(summary, LastUpdateOf(report.metrics().epoch()));
  return Flush();
}

absl::Status TensorBoardLog::WriteEval(const v1::EvalReport& report) {
  Summary summary;
  AddScalar("eval/reward_mean", report.reward_mean(), &summary);
  AddScalar("eval/reward_stderr", report.reward_stderr(), &summary);
  const std::map<std::string, double> means(report.parts_mean().begin(), report.parts_mean().end());
  for (const auto& [part, mean] : means) {
    AddScalar(absl::StrCat("eval_parts_mean/", part), mean, &summary);
  }
  const std::map<std::string, double> errors(report.parts_stderr().begin(),
                                             report.parts_stderr().end());
  for (const auto& [part, error] : errors) {
    AddScalar(absl::StrCat("eval_parts_stderr/", part), error, &summary);
  }
  AddSummary(summary, report.epoch() * updates_per_epoch_);
  return Flush();
}

absl::Status TensorBoardLog::Flush() {
  if (file_.empty() || pending_.empty()) return absl::OkStatus();
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, folder_));
  const absl::Status status = file_system_.Append(file_, pending_);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(status.message(),
                                                    "; free space there: TensorBoard's events are "
                                                    "written as soon as it works"));
  }
  pending_.clear();
  return absl::OkStatus();
}

absl::Status TensorBoardLog::Sync() {
  IMAGEDDPO_RETURN_IF_ERROR(Flush());
  return file_.empty() ? absl::OkStatus() : SyncFile(file_);
}

}  // namespace imageddpo
