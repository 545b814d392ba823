#include "common/config/yaml/yaml_source.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxShownBytes = 60;

/// Where documents begin.
class DocumentStarts final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { marks_.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  const std::vector<YAML::Mark>& marks() const { return marks_; }

 private:
  std::vector<YAML::Mark> marks_;
};

// yaml-cpp tags what stands in quotes with "!", so that "null" in quotes is text.
bool IsQuoted(const YAML::Node& node) { return node.Tag() == "!"; }

std::string Line(const std::string& file, const YAML::Mark& mark) {
  return mark.is_null() ? file : absl::StrCat(file, ":", mark.line + 1);
}

bool IsWholeNumber(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

// The value of `\uHHHH` at `at`; -1: there is none.
int CodeAt(std::string_view text, size_t at) {
  int code = -1;
  if (text.size() < at + 6 || text.substr(at, 2) != "\\u") return -1;
  return absl::SimpleHexAtoi(std::string(text.substr(at + 2, 4)), &code) ? code : -1;
}

// JSON writes characters above U+FFFF as two escapes, YAML as one.
std::string JsonAsYaml(std::string_view json) {
  std::string yaml;
  for (size_t at = 0; at < json.size();) {
    const int high = CodeAt(json, at), low = CodeAt(json, at + 6);
    if (high >= 0xD800 && high < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
      absl::StrAppendFormat(&yaml, "\\U%08X", 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
      at += 12;
    } else {
      const size_t size = json[at] == '\\' ? 2 : 1;
      yaml.append(json.substr(at, size));
      at += size;
    }
  }
  return yaml;
}

// The text, checked for yaml-cpp, which reads invalid UTF-8 as U+FFFD and silently stops at a byte
// of value 4. yaml-cpp itself reads UTF-16 with a byte order mark, as YAML demands.
absl::StatusOr<std::string> CheckedYaml(std::string_view text, const std::string& file) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) return std::string(text);
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view utf8, Utf8Of(text, file));
  const auto control = std::find_if(utf8.begin(), utf8.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r';
  });
  if (control == utf8.end()) {
    const bool is_json = utf8.substr(0, utf8.find_first_not_of(" \t\r\n") + 1).ends_with('{');
    return is_json ? JsonAsYaml(utf8) : std::string(utf8);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      file, ":", std::count(utf8.begin(), control, '\n') + 1, " has the control character ",
      Printable(std::string(1, *control)), ", which YAML does not allow; is it a text file?"));
}

/// YAML::LoadAll() would not do: of a sign that it cannot read (as in ",{") it makes documents
/// without an end, until the memory is used up.
absl::Status CheckOneDocument(const std::string& text, const std::string& file) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts starts;
  while (starts.marks().size() < 2 && parser.HandleNextDocument(starts)) {
  }
  if (starts.marks().size() < 2) return absl::OkStatus();
  const YAML::Mark& first = starts.marks()[0];
  const YAML::Mark& second = starts.marks()[1];
  return absl::InvalidArgumentError(
      absl::StrCat(Line(file, second), second.pos == first.pos
                                           ? " is not valid YAML: it begins with a sign that has "
                                             "no meaning there"
                                           : " begins a second YAML document; a file holds one"));
}

}  // namespace

std::string YamlFaults::Where(const std::string& key, const YAML::Node& node) const {
  if (file_.empty()) return absl::StrCat("`", key, "`");
  return absl::StrCat("`", key, "` (", Line(file_, node.Mark()), ")");
}

absl::Status YamlFaults::ToStatus() const { return InvalidSettings(messages_); }

absl::StatusOr<YAML::Node> LoadYamlMap(std::string_view text, const std::string& file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string checked, CheckedYaml(text, file));
  YAML::Node root;
  try {
    IMAGEDDPO_RETURN_IF_ERROR(CheckOneDocument(checked, file));
    root = YAML::Load(checked);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(Line(file, error.mark), " is not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is not valid YAML: ", error.what()));
  }
  if (!root.IsMap() && !IsYamlNull(root)) {
    return absl::InvalidArgumentError(absl::StrCat(Line(file, root.Mark()), " must be a list of ",
                                                   "`setting: value` lines, not ",
                                                   DescribeYaml(root)));
  }
  return root;
}

bool IsYamlNull(const YAML::Node& node) { return node.IsNull(); }

std::optional<std::string> YamlText(const YAML::Node& node) {
  if (!node.IsScalar()) return std::nullopt;
  return node.Scalar();
}

std::optional<int64_t> YamlInt64(const YAML::Node& node) {
  int64_t value = 0;
  if (!node.IsScalar() || !IsWholeNumber(node.Scalar())) return std::nullopt;
  if (!absl::SimpleAtoi(node.Scalar(), &value)) return std::nullopt;
  return value;
}

std::optional<uint64_t> YamlUint64(const YAML::Node& node) {
  uint64_t value = 0;
  if (!node.IsScalar() || !IsWholeNumber(node.Scalar())) return std::nullopt;
  if (!absl::SimpleAtoi(node.Scalar(), &value)) return std::nullopt;
  return value;
}

std::optional<double> YamlDouble(const YAML::Node& node) {
  if (!node.IsScalar()) return std::nullopt;
  std::string text = absl::AsciiStrToLower(node.Scalar());
  if (text == ".inf" || text == "+.inf" || text == "-.inf" || text == ".nan") {
    text.erase(text.find('.'), 1);  // YAML's spelling
  }
  if (text.find_first_of("x \t") != std::string::npos) return std::nullopt;
  double value = 0;
  if (!absl::SimpleAtod(text, &value)) return std::nullopt;
  return value;
}

std::optional<bool> YamlBool(const YAML::Node& node) {
  if (!node.IsScalar() || IsQuoted(node)) return std::nullopt;
  const std::string text = absl::AsciiStrToLower(node.Scalar());
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::string DescribeYaml(const YAML::Node& node) {
  if (IsYamlNull(node)) return "nothing";
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a section of settings";
  return absl::StrCat("`", Excerpt(node.Scalar(), kMaxShownBytes), "`");
}

}  // namespace imageddpo
