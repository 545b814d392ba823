#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "common/config/job_config.h"

namespace imageddpo {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// The shortest text that reads back to the same number, and that every YAML reader takes for a
// number (YAML 1.1 knows 1.0e-08 but not 1e-8).
std::string ShortestDouble(double value) {
  std::array<char, 64> text;
  const double size = std::abs(value);
  const bool is_fixed = size == 0 || (size >= 1e-5 && size < 1e15);
  const auto result =
      std::to_chars(text.data(), text.data() + text.size(), value,
                    is_fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string number(text.data(), result.ptr);
  const size_t exponent = number.find('e');
  if (exponent != std::string::npos && number.find('.') == std::string::npos) {
    number.insert(exponent, ".0");
  }
  return number;
}

// Plain where YAML cannot take it for anything but text, otherwise in quotes: JSON's quoted text is
// YAML too.
std::string YamlString(const std::string& text) {
  constexpr std::array kOtherMeaning = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n"};
  bool is_plain =
      !text.empty() && (absl::ascii_isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/');
  for (const char c : text) {
    is_plain = is_plain && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
                            c == '-' || c == '.' || c == '/');
  }
  for (const char* word : kOtherMeaning) is_plain = is_plain && absl::AsciiStrToLower(text) != word;
  if (is_plain) return text;
  return PrintableJson(
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

// One scalar; index -1: the field is not repeated.
std::string ScalarToYaml(const Message& section, const FieldDescriptor* field, int index) {
  const Reflection& read = *section.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(index < 0 ? read.GetInt64(section, field)
                                    : read.GetRepeatedInt64(section, field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(index < 0 ? read.GetUInt64(section, field)
                                    : read.GetRepeatedUInt64(section, field, index));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ShortestDouble(index < 0 ? read.GetDouble(section, field)
                                      : read.GetRepeatedDouble(section, field, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return read.GetBool(section, field) ? "true" : "false";
    default:
      return YamlString(index < 0 ? read.GetString(section, field)
                                  : read.GetRepeatedString(section, field, index));
  }
}

void AppendSection(const Message& section, int indent, std::string* yaml);

void AppendList(const Message& section, const FieldDescriptor* field, int indent,
                std::string* yaml) {
  const Reflection& read = *section.GetReflection();
  const int size = read.FieldSize(section, field);
  if (field->message_type() == nullptr) {
    std::vector<std::string> items;
    for (int i = 0; i < size; ++i) items.push_back(ScalarToYaml(section, field, i));
    absl::StrAppend(yaml, " [", absl::StrJoin(items, ", "), "]\n");
    return;
  }
  absl::StrAppend(yaml, "\n");
  for (int i = 0; i < size; ++i) {
    std::string item;
    AppendSection(read.GetRepeatedMessage(section, field, i), indent + 4, &item);
    if (item.empty()) item = absl::StrCat(std::string(indent + 4, ' '), "{}\n");
    item[indent + 2] = '-';  // Into the first line's indentation.
    absl::StrAppend(yaml, item);
  }
}

void AppendSection(const Message& section, int indent, std::string* yaml) {
  const Descriptor& descriptor = *section.GetDescriptor();
  const Reflection& read = *section.GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    const bool is_present =
        field->is_repeated() ? read.FieldSize(section, field) > 0 : read.HasField(section, field);
    if (!is_present) continue;
    absl::StrAppend(yaml, std::string(indent, ' '), field->name(), ":");
    if (field->is_repeated()) {
      AppendList(section, field, indent, yaml);
    } else if (field->message_type() == nullptr) {
      absl::StrAppend(yaml, " ", ScalarToYaml(section, field, -1), "\n");
    } else {
      std::string lines;
      AppendSection(read.GetMessage(section, field), indent + 2, &lines);
      const bool is_topology = field->message_type() == v1::TopologySpec::descriptor();
      if (lines.empty()) lines = is_topology ? " auto\n" : " {}\n";
      absl::StrAppend(yaml, lines[0] == ' ' && lines[1] != ' ' ? "" : "\n", lines);
    }
  }
}

}  // namespace

std::string JobToYaml(const v1::JobSpec& job) {
  std::string yaml;
  AppendSection(job, 0, &yaml);
  return yaml;
}

}  // namespace imageddpo
