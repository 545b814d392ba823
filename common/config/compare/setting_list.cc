#include "common/config/compare/setting_list.h"

#include <google/protobuf/util/json_util.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/config/resolved_job.h"

namespace imageddpo {
namespace {

using nlohmann::ordered_json;

ordered_json JsonOf(const v1::JobSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  static_cast<void>(google::protobuf::util::MessageToJsonString(spec, &text, options));
  return ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string TextOf(const ordered_json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// "rewards.0.type" and so on; a list of plain values is one setting.
void Flatten(const ordered_json& value, const std::string& name,
             std::vector<std::pair<std::string, std::string>>* settings) {
  const bool is_list_of_objects =
      value.is_array() && !value.empty() && value.front().is_structured();
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      Flatten(item, name.empty() ? key : absl::StrCat(name, ".", key), settings);
    }
  } else if (is_list_of_objects) {
    for (size_t i = 0; i < value.size(); ++i) {
      Flatten(value[i], absl::StrCat(name, ".", i), settings);
    }
  } else {
    settings->emplace_back(name, TextOf(value));
  }
}

/// A job that asks for the same with nothing but what has to be said.
v1::JobSpec BareJob(const v1::JobSpec& spec) {
  v1::JobSpec bare;
  bare.mutable_model()->set_path(spec.model().path());
  bare.mutable_data()->set_path(spec.data().path());
  for (const v1::RewardSpec& reward : spec.rewards()) {
    v1::RewardSpec* const added = bare.add_rewards();
    added->set_type(reward.type());
    if (reward.has_name()) added->set_name(reward.name());
    if (reward.has_model()) added->set_model(reward.model());
    if (reward.has_measure()) added->set_measure(reward.measure());
    *added->mutable_endpoints() = reward.endpoints();
  }
  return bare;
}

}  // namespace

std::vector<JobSetting> SettingsOf(const v1::JobSpec& spec) {
  std::vector<std::pair<std::string, std::string>> values, defaults;
  Flatten(JsonOf(spec), "", &values);
  if (const absl::StatusOr<ResolvedJob> bare = ResolvedJob::Make(BareJob(spec)); bare.ok()) {
    Flatten(JsonOf(bare->spec()), "", &defaults);
  }
  const std::map<std::string, std::string> by_name(defaults.begin(), defaults.end());
  std::vector<JobSetting> settings;
  for (const auto& [name, value] : values) {
    const auto found = by_name.find(name);
    settings.push_back({.name = name,
                        .value = value,
                        .default_value = found == by_name.end() ? "–" : found->second});
  }
  return settings;
}

}  // namespace imageddpo
