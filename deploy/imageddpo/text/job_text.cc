#include "deploy/imageddpo/text/job_text.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/config/job_states.h"
#include "common/learning/learning.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::ordered_json;

bool Is64Bit(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_INT64 ||
         field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
}

ordered_json AsNumber(const ordered_json& text) {
  const std::string digits = text.get<std::string>();
  int64_t number = 0;
  if (absl::SimpleAtoi(digits, &number)) return number;
  uint64_t large = 0;
  if (absl::SimpleAtoi(digits, &large)) return large;
  return text;
}

// Protobuf writes 64-bit integers in quotes; this takes the quotes away, by the schema.
void UnquoteIntegers(const Descriptor& message, ordered_json* object) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const auto it = object->find(field.name());
    if (it == object->end()) continue;
    const bool is_message =
        field.message_type() != nullptr && !field.is_map() && it->is_structured();
    std::vector<ordered_json*> values;
    if (field.is_repeated() && it->is_array()) {
      for (ordered_json& item : *it) values.push_back(&item);
    } else {
      values.push_back(&*it);
    }
    for (ordered_json* value : values) {
      if (is_message && value->is_object()) UnquoteIntegers(*field.message_type(), value);
      if (Is64Bit(field) && value->is_string()) *value = AsNumber(*value);
    }
  }
}

ordered_json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  // Fails for a message with an Any of unknown type alone; the API has none.
  static_cast<void>(google::protobuf::util::MessageToJsonString(message, &text, options));
  ordered_json object = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_object()) UnquoteIntegers(*message.GetDescriptor(), &object);
  return object;
}

/// Of a job that trains nothing.
bool IsEvaluation(const v1::JobSpec& job) { return job.has_num_epochs() && job.num_epochs() == 0; }

std::string EpochText(const v1::Job& job) {
  if (IsEvaluation(job.spec())) return "-";
  const int64_t epochs =
      job.progress().num_epochs() > 0 ? job.progress().num_epochs() : job.spec().num_epochs();
  return absl::StrCat(job.progress().epoch(), "/", epochs);
}

// "1980 of 2000 images, 20 skipped"; empty as long as nobody has looked.
std::string DataText(const v1::JobProgress& progress) {
  const int64_t used = progress.data_images(), listed = progress.data_images_listed();
  if (listed == 0) return "";
  if (used == listed) return absl::StrCat(used, " images");
  return absl::StrCat(used, " of ", listed, " images, ", listed - used, " skipped");
}

std::string RewardText(const v1::Job& job) {
  const bool has_reward =
      job.progress().has_newest_epoch() && !job.progress().newest_epoch().has_sft_loss();
  return has_reward ? FormatNumber(job.progress().newest_epoch().reward_mean(), 3) : "-";
}

std::string SpeedText(const v1::Job& job) {
  const double speed = job.progress().newest_epoch().images_per_second();
  return speed > 0 ? absl::StrFormat("%.1f", speed) : "-";
}

std::string LeftText(const v1::Job& job) {
  const bool is_running = job.state() == v1::RUNNING;
  return is_running && job.progress().seconds_left() > 0
             ? FormatDuration(job.progress().seconds_left())
             : "-";
}

}  // namespace

std::string MessageToJson(const google::protobuf::Message& message) {
  return PrintableJson(ToJson(message).dump(2)) + "\n";
}

std::string JobToJson(const v1::Job& job) { return MessageToJson(job); }

std::string JobsToJson(const std::vector<v1::Job>& jobs) {
  ordered_json list = ordered_json::array();
  for (const v1::Job& job : jobs) list.push_back(ToJson(job));
  return PrintableJson(ordered_json{{"jobs", std::move(list)}}.dump(2)) + "\n";
}

std::string JobDetails(const v1::Job& job, const std::vector<v1::JobEvent>& events) {
  const v1::JobProgress& progress = job.progress();
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* what, const std::string& value) {
    if (!value.empty()) rows.push_back({what, OneLine(value)});
  };
  add("name", job.spec().name());
  add("state", StateName(job.state()) +
                   (job.state_reason().empty() ? "" : absl::StrCat(": ", job.state_reason())));
  if (job.priority() != 0) add("priority", absl::StrCat(job.priority()));
  if (job.max_seconds() > 0) {
    add("time", absl::StrCat(std::llround(progress.run_seconds()), " s of at most ",
                             std::llround(job.max_seconds()), " s"));
  }
  for (const auto& [key, value] :
       std::map<std::string, std::string>(job.labels().begin(), job.labels().end())) {
    add("label", absl::StrCat(key, "=", value));
  }
  if (!job.branched_from().empty()) {
    add("branched",
        absl::StrCat("from epoch ", job.branched_from_epoch(), " of ", job.branched_from()));
  }
  add("topology", job.topology());
  add("chosen as", job.topology_reason());
  add("epochs", (IsEvaluation(job.spec()) ? "none, an evaluation" : EpochText(job)) +
                    (progress.stage().empty() || job.state() != v1::RUNNING
                         ? ""
                         : absl::StrCat(", ", progress.stage())));
  add("data", DataText(progress));
  add("waits for", progress.waiting_for());
  if (!IsEvaluation(job.spec())) add("samples", absl::StrCat(progress.samples_seen()));
  if (progress.has_newest_epoch()) {
    const v1::EpochMetrics& newest = progress.newest_epoch();
    if (!newest.has_sft_loss()) {
      add("reward", absl::StrCat(FormatNumber(newest.reward_mean()), " ± ",
                                 FormatNumber(newest.reward_std(), 3)));
    }
    add("loss", FormatNumber(newest.loss(), 3));
    add("images/s", SpeedText(job));
    add("ratio error", FormatNumber(progress.ratio_first_step_max_error(), 3));
    const LearningVerdict verdict = JudgeLearning(HistoryOf(job, events));
    add("learning?", absl::StrCat(verdict.name(), ": ", verdict.why));
  }
  if (LeftText(job) != "-") add("time left", LeftText(job));
  add("created", FormatTime(job.create_time()) + " UTC");
  if (job.has_start_time()) add("started", FormatTime(job.start_time()) + " UTC");
  if (job.has_end_time()) {
    add("ended", absl::StrCat(FormatTime(job.end_time()), " UTC, after ",
                              FormatSpan(job.start_time(), job.end_time())));
  }
  if (job.resume_count() > 0) {
    add("resumed",
        absl::StrCat(job.resume_count(), "×, the last time from epoch ", job.resumed_from_epoch()));
  }
  add("output", job.output_dir());
  add("LoRA", job.lora_path());
  if (!job.best_lora_path().empty()) {
    add("best", absl::StrCat(job.spec().checkpoint().best(), " ", FormatNumber(job.best_value()),
                             " after ", job.best_epoch(), " epochs"));
    add("best LoRA", job.best_lora_path());
  }
  for (const std::string& warning : job.warnings()) add("warning", warning);
  return FormatTable({"id", Printable(job.id())}, rows);
}

std::string JobTable(const std::vector<v1::Job>& jobs) {
  if (jobs.empty())
    return "No jobs yet. Submit one: imageddpo submit deploy/jobs/sd15-compressibility.yaml\n";
  std::vector<std::vector<std::string>> rows;
  for (const v1::Job& job : jobs) {
    rows.push_back({Printable(job.id()), Truncate(Printable(job.spec().name()), 32),
                    StateName(job.state()), EpochText(job), RewardText(job), SpeedText(job),
                    LeftText(job), absl::StrCat(job.resume_count()),
                    FormatTime(job.create_time())});
  }
  return FormatTable({"ID", "NAME", "STATE", "EPOCH#", "REWARD#", "IMAGES/S#", "LEFT#", "RESUMED#",
                      "CREATED (UTC)"},
                     rows);
}

std::string JobAsFile(const v1::Job& job) {
  return absl::StrCat("# ", Printable(job.id()), ", ", StateName(job.state()),
                      ": its settings, with every default filled in.\n", JobToYaml(job.spec()));
}

}  // namespace imageddpo
