#include "common/config/compare/job_difference.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace imageddpo {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string Text(const Message& section, const FieldDescriptor* field) {
  const google::protobuf::Reflection& read = *section.GetReflection();
  std::string text;
  if (!field->is_repeated()) {
    if (!read.HasField(section, field)) return "";
    google::protobuf::TextFormat::PrintFieldValueToString(section, field, -1, &text);
    return text;
  }
  std::vector<std::string> items(static_cast<size_t>(read.FieldSize(section, field)));
  if (items.empty()) return "";
  for (size_t i = 0; i < items.size(); ++i) {
    google::protobuf::TextFormat::PrintFieldValueToString(section, field, static_cast<int>(i),
                                                          &items[i]);
  }
  return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
}

/// Adds what differs between two messages of one type, whose settings begin with `prefix`.
void Compare(const Message& before, const Message& after, const std::string& prefix,
             std::vector<SettingDifference>* found) {
  const google::protobuf::Reflection& read = *before.GetReflection();
  for (int i = 0; i < before.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = before.GetDescriptor()->field(i);
    const std::string setting = absl::StrCat(prefix, field->name());
    if (field->message_type() == nullptr) {
      SettingDifference difference{setting, Text(before, field), Text(after, field)};
      if (difference.before != difference.after) found->push_back(std::move(difference));
    } else if (!field->is_repeated()) {
      Compare(read.GetMessage(before, field), read.GetMessage(after, field),
              absl::StrCat(setting, "."), found);
    } else {
      const std::unique_ptr<Message> none(google::protobuf::MessageFactory::generated_factory()
                                              ->GetPrototype(field->message_type())
                                              ->New());
      const int before_size = read.FieldSize(before, field);
      const int after_size = read.FieldSize(after, field);
      for (int item = 0; item < std::max(before_size, after_size); ++item) {
        Compare(item < before_size ? read.GetRepeatedMessage(before, field, item) : *none,
                item < after_size ? read.GetRepeatedMessage(after, field, item) : *none,
                absl::StrCat(setting, ".", item, "."), found);
      }
    }
  }
}

}  // namespace

std::vector<SettingDifference> DifferentSettings(const v1::JobSpec& before,
                                                 const v1::JobSpec& after) {
  std::vector<SettingDifference> found;
  Compare(before, after, "", &found);
  return found;
}

}  // namespace imageddpo
