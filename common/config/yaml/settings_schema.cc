#include "common/config/yaml/settings_schema.h"

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/suggest.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

void Collect(const Descriptor& section, const std::string& prefix, std::vector<Setting>* settings) {
  for (int i = 0; i < section.field_count(); ++i) {
    const FieldDescriptor* field = section.field(i);
    const std::string path = absl::StrCat(prefix, field->name());
    settings->push_back({path, field});
    if (field->message_type() != nullptr) {
      Collect(*field->message_type(), absl::StrCat(path, "."), settings);
    }
  }
}

// The full path of a setting that has this name in another section, or whose path is written as one
// word ("sample_num_steps"), as in DDPOConfig.
std::optional<std::string> ElsewhereInSchema(const Descriptor& section, const std::string& key) {
  const std::vector<Setting> settings = AllSettings(*section.file()->message_type(0));
  for (const Setting& setting : settings) {
    if (absl::StrReplaceAll(setting.path, {{".", "_"}}) == key) return setting.path;
  }
  std::vector<std::string> same_name;
  for (const Setting& setting : settings) {
    if (setting.field->name() == key) same_name.push_back(setting.path);
  }
  if (same_name.empty()) return std::nullopt;
  return absl::StrJoin(same_name, "` or `");
}

std::vector<std::string> Keys(const Descriptor& section) {
  std::vector<std::string> keys;
  for (int i = 0; i < section.field_count(); ++i) keys.push_back(section.field(i)->name());
  return keys;
}

}  // namespace

std::vector<Setting> AllSettings(const Descriptor& root) {
  std::vector<Setting> settings;
  Collect(root, "", &settings);
  return settings;
}

std::string UnknownSetting(const Descriptor& section, const std::string& prefix,
                           const std::string& key, const std::string& where) {
  const std::string head = absl::StrCat("unknown setting ", where, "; ");
  const std::vector<std::string> keys = Keys(section);
  if (const auto closest = ClosestMatch(key, keys)) {
    return absl::StrCat(head, "did you mean `", *closest, "`?");
  }
  if (const auto elsewhere = ElsewhereInSchema(section, key)) {
    return absl::StrCat(head, "did you mean `", *elsewhere, "`?",
                        absl::StrContains(key, '_') && &section == v1::JobSpec::descriptor()
                            ? " (`imageddpo import-trl` turns a whole DDPOConfig into a job file)"
                            : "");
  }
  return absl::StrCat(head,
                      prefix.empty()
                          ? "known here: "
                          : absl::StrCat("`", prefix.substr(0, prefix.size() - 1), "` has: "),
                      absl::StrJoin(keys, ", "));
}

bool MayBeAuto(const FieldDescriptor& field) {
  return field.containing_type() == v1::DeviceSpec::descriptor() &&
         field.number() == v1::DeviceSpec::kDeviceBatchSizeFieldNumber;
}

bool IsResolution(const FieldDescriptor& field) {
  return field.containing_type() == v1::DataSpec::descriptor() &&
         field.number() == v1::DataSpec::kResolutionFieldNumber;
}

std::string ExpectedValue(const FieldDescriptor& field) {
  if (IsResolution(field)) return "a whole number or two of them, as `[768, 512]`";
  if (MayBeAuto(field)) return "a whole number or `auto`";
  const auto one = [&]() -> std::string {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
      case FieldDescriptor::CPPTYPE_INT64:
        return "a whole number";
      case FieldDescriptor::CPPTYPE_UINT32:
      case FieldDescriptor::CPPTYPE_UINT64:
        return "a whole number, 0 or more";
      case FieldDescriptor::CPPTYPE_FLOAT:
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return "a number";
      case FieldDescriptor::CPPTYPE_BOOL:
        return "true or false";
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return field.is_repeated() ? "sections of settings" : "a section of settings";
      default:
        return "text";
    }
  }();
  return field.is_repeated() ? absl::StrCat("a list of ", one) : one;
}

}  // namespace imageddpo
