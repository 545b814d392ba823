#include "common/config/yaml/yaml_to_json.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/yaml/settings_schema.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

template <typename T>
json OrNull(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

json ScalarToJson(const YAML::Node& node, const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return OrNull(YamlInt64(node));
    case FieldDescriptor::CPPTYPE_UINT64:
      return OrNull(YamlUint64(node));
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const std::optional<double> value = YamlDouble(node);
      return value && std::isfinite(*value) ? json(*value) : json();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return OrNull(YamlBool(node));
    case FieldDescriptor::CPPTYPE_STRING:
      return OrNull(YamlText(node));
    default:
      return json();
  }
}

// `topology: auto` is an empty section.
bool IsAutoTopology(const YAML::Node& node, const Descriptor& section) {
  return section.full_name() == v1::TopologySpec::descriptor()->full_name() && node.IsScalar() &&
         node.Scalar() == "auto";
}

json SingleToJson(const YAML::Node& node, const FieldDescriptor& field, const std::string& path,
                  YamlFaults* faults) {
  const Descriptor* section = field.message_type();
  if (section == nullptr) {
    if (MayBeAuto(field) && node.IsScalar() && node.Scalar() == "auto") return json();
    if (IsYamlNull(node)) {
      faults->Add(absl::StrCat(faults->Where(path, node), " has no value; it must be ",
                               ExpectedValue(field), ". Remove the line to get the default"));
      return json();
    }
    json value = ScalarToJson(node, field);
    if (value.is_null()) {
      const bool is_real = field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE;
      const bool is_infinite = is_real && YamlDouble(node).has_value();
      faults->Add(absl::StrCat(faults->Where(path, node), " must be ",
                               is_infinite ? "a finite number" : ExpectedValue(field), ", not ",
                               DescribeYaml(node)));
    }
    return value;
  }
  if (IsAutoTopology(node, *section)) return json::object();
  if (IsYamlNull(node)) return json();  // A section whose lines are all commented out.
  if (!node.IsMap()) {
    const bool is_topology = section->full_name() == v1::TopologySpec::descriptor()->full_name();
    faults->Add(absl::StrCat(faults->Where(path, node), " must be ",
                             is_topology ? "`auto`, `{rollout: R, trainer: T}` or `{colocated: C}`"
                                         : "a section of settings",
                             ", not ", DescribeYaml(node)));
    return json();
  }
  return YamlSectionToJson(node, *section, absl::StrCat(path, "."), faults);
}

}  // namespace

json YamlValueToJson(const YAML::Node& node, const FieldDescriptor& field, const std::string& path,
                     YamlFaults* faults) {
  if (!field.is_repeated()) return SingleToJson(node, field, path, faults);
  if (!node.IsSequence()) {
    faults->Add(absl::StrCat(faults->Where(path, node), " must be ", ExpectedValue(field), ", not ",
                             DescribeYaml(node)));
    return json();
  }
  json list = json::array();
  int index = 0;
  for (const YAML::Node& item : node) {
    const std::string item_path = absl::StrCat(path, "[", index++, "]");
    if (IsYamlNull(item)) {
      faults->Add(absl::StrCat(faults->Where(item_path, item), " is empty"));
      continue;
    }
    list.push_back(SingleToJson(item, field, item_path, faults));
  }
  return list;
}

void PutYamlValue(const YAML::Node& node, const FieldDescriptor& field, const std::string& path,
                  json* object, YamlFaults* faults) {
  if (!IsResolution(field) || !node.IsSequence()) {
    json value = YamlValueToJson(node, field, path, faults);
    if (!value.is_null()) (*object)[field.name()] = std::move(value);
    return;
  }
  const std::optional<int64_t> width = node.size() == 2 ? YamlInt64(node[0]) : std::nullopt;
  const std::optional<int64_t> height = node.size() == 2 ? YamlInt64(node[1]) : std::nullopt;
  if (!width || !height) {
    faults->Add(
        absl::StrCat(faults->Where(path, node),
                     " must be a whole number or two of them, as `[768, 512]` for width and "
                     "height"));
    return;
  }
  (*object)["width"] = *width;
  (*object)["height"] = *height;
}

json YamlSectionToJson(const YAML::Node& node, const Descriptor& section, const std::string& prefix,
                       YamlFaults* faults) {
  json object = json::object();
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      faults->Add(
          absl::StrCat(faults->Where(prefix + "?", entry.first), " is not a setting's name"));
      continue;
    }
    const std::string key = entry.first.Scalar();
    const std::string path = prefix + key;
    const FieldDescriptor* field = section.FindFieldByName(key);
    if (field == nullptr) {
      faults->Add(UnknownSetting(section, prefix, key, faults->Where(path, entry.first)));
      continue;
    }
    if (!seen.insert(key).second) {
      faults->Add(absl::StrCat(faults->Where(path, entry.first), " is given twice"));
      continue;
    }
    PutYamlValue(entry.second, *field, path, &object, faults);
  }
  return object;
}

absl::Status ReadJsonSettings(const json& object, const std::string& file,
                              google::protobuf::Message* message) {
  std::string text;
  try {
    text = object.dump();
  } catch (const json::exception&) {
    return absl::InvalidArgumentError(absl::StrCat(file, " holds text that is not UTF-8"));
  }
  const auto status = google::protobuf::util::JsonStringToMessage(text, message);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", status.message().ToString()));
  }
  return absl::OkStatus();
}

absl::Status ReadYamlSettings(const YAML::Node& root, const std::string& file,
                              google::protobuf::Message* message) {
  if (IsYamlNull(root)) return absl::OkStatus();
  YamlFaults faults(file);
  const json object = YamlSectionToJson(root, *message->GetDescriptor(), "", &faults);
  IMAGEDDPO_RETURN_IF_ERROR(faults.ToStatus());
  return ReadJsonSettings(object, file, message);
}

}  // namespace imageddpo
