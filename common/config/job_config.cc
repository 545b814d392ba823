#include "common/config/job_config.h"

#include <google/protobuf/message.h>

#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/resolve_steps.h"
#include "common/config/yaml/settings_schema.h"
#include "common/config/yaml/yaml_to_json.h"

namespace imageddpo {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

// The section that holds the last name of `path` ("rewards.0.weight"), made where it is missing.
absl::StatusOr<Message*> FindSection(const std::vector<std::string>& names, const std::string& path,
                                     Message* job) {
  Message* section = job;
  std::string prefix;
  for (size_t i = 0; i + 1 < names.size(); ++i) {
    const FieldDescriptor* field = section->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) {
      return InvalidSettings({UnknownSetting(*section->GetDescriptor(), prefix, names[i],
                                             absl::StrCat("`", prefix, names[i], "`"))});
    }
    absl::StrAppend(&prefix, names[i], ".");
    if (field->message_type() == nullptr) {
      return InvalidSettings(
          {absl::StrCat("unknown setting `", path, "`: `", prefix.substr(0, prefix.size() - 1),
                        "` is ", ExpectedValue(*field), " and has no settings of its own")});
    }
    const auto* reflection = section->GetReflection();
    if (!field->is_repeated()) {
      section = reflection->MutableMessage(section, field);
      continue;
    }
    int index = -1;
    const int size = reflection->FieldSize(*section, field);
    if (i + 2 >= names.size() || !absl::SimpleAtoi(names[i + 1], &index) || index < 0 ||
        index >= size) {
      return InvalidSettings(
          {absl::StrCat("`", path, "`: the job has ", size, " `", names[i],
                        "`; write the item's number, from 0, as in `", prefix, "0.NAME`")});
    }
    section = reflection->MutableRepeatedMessage(section, field, index);
    absl::StrAppend(&prefix, names[++i], ".");
  }
  return section;
}

// Whether `path` ("rewards[0].type") is a setting, and whether `given` has it.
enum class Presence { kNoSetting, kAbsent, kGiven };
Presence Find(const std::string& path, const json& given) {
  const google::protobuf::Descriptor* section = v1::JobSpec::descriptor();
  const json* value = &given;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    const std::vector<std::string> name = absl::StrSplit(part, absl::MaxSplits('[', 1));
    const FieldDescriptor* field = section == nullptr ? nullptr : section->FindFieldByName(name[0]);
    if (field == nullptr) return Presence::kNoSetting;
    section = field->message_type();
    const auto found = value->find(name[0]);
    size_t index = 0;
    const bool is_item =
        name.size() == 2 && absl::SimpleAtoi(name[1].substr(0, name[1].find(']')), &index);
    if (found == value->end() || (is_item && index >= found->size())) return Presence::kAbsent;
    value = is_item ? &(*found)[index] : &*found;
  }
  return Presence::kGiven;
}

// A file in which some lines cannot be read: what is wrong with the values of the others, so that
// one answer has all. What rests on a setting that is not there is left for the next look.
void AddFaultsOfValues(const json& given, const std::string& file, YamlFaults* faults) {
  v1::JobSpec job;
  if (!ReadJsonSettings(given, file, &job).ok()) return;
  FillDefaults(&job);
  for (const FieldViolation& fault : RejectionOf(ValidateJob(job, MakeJobPlan(job))).violations) {
    const std::vector<std::string> parts = absl::StrSplit(fault.description, '`');
    bool stands = parts.size() > 1 && Find(parts[1], given) == Presence::kGiven;
    for (size_t i = 3; i < parts.size() && stands; i += 2) {  // What else is in `backquotes`.
      stands = Find(parts[i], given) != Presence::kAbsent;
    }
    if (stands) faults->Add(fault.description);
  }
}

}  // namespace

absl::StatusOr<v1::JobSpec> ParseJobYaml(std::string_view text, const std::string& file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const YAML::Node root, LoadYamlMap(text, file));
  if (IsYamlNull(root)) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, " has no settings; docs/settings.md lists them, deploy/jobs/ has examples"));
  }
  v1::JobSpec job;
  YamlFaults faults(file);
  const json given = YamlSectionToJson(root, *job.GetDescriptor(), "", &faults);
  if (!faults.empty()) AddFaultsOfValues(given, file, &faults);
  IMAGEDDPO_RETURN_IF_ERROR(faults.ToStatus());
  IMAGEDDPO_RETURN_IF_ERROR(ReadJsonSettings(given, file, &job));
  return job;
}

absl::Status ApplyJobSetting(std::string_view assignment, v1::JobSpec* job) {
  if (!IsValidUtf8(assignment)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`", ValidText(assignment), "` is not UTF-8; such a path is given as it is written here"));
  }
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(std::string(assignment), absl::MaxSplits('=', 1));
  const std::string& path = parts.first;
  if (path.empty() || assignment.find('=') == std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", std::string(assignment),
                     "` is not of the form SETTING=VALUE, as in sample.num_steps=20"));
  }
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  v1::JobSpec changed = *job;
  IMAGEDDPO_ASSIGN_OR_RETURN(Message * section, FindSection(names, path, &changed));
  const std::string prefix = path.substr(0, path.size() - names.back().size());
  const FieldDescriptor* field = section->GetDescriptor()->FindFieldByName(names.back());
  if (field == nullptr) {
    return InvalidSettings({UnknownSetting(*section->GetDescriptor(), prefix, names.back(),
                                           absl::StrCat("`", path, "`"))});
  }

  YamlFaults faults("");
  json object = json::object();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && !field->is_repeated()) {
    object[names.back()] =
        parts.second;  // As the shell gave it: text needs no second pair of quotes.
  } else {
    try {
      PutYamlValue(YAML::Load(parts.second), *field, path, &object, &faults);
    } catch (const YAML::Exception& error) {
      return InvalidSettings({absl::StrCat("`", path, "`: ", error.msg)});
    }
  }
  IMAGEDDPO_RETURN_IF_ERROR(faults.ToStatus());
  section->GetReflection()->ClearField(section, field);
  if (IsResolution(*field)) {  // The other way to say the same.
    changed.mutable_data()->clear_width();
    changed.mutable_data()->clear_height();
  }
  const std::unique_ptr<Message> update(section->New());
  IMAGEDDPO_RETURN_IF_ERROR(ReadJsonSettings(object, absl::StrCat("`", path, "`"), update.get()));
  section->MergeFrom(*update);
  *job = std::move(changed);
  return absl::OkStatus();
}

}  // namespace imageddpo
