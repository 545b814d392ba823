#include "common/config/yaml_source.h"

#include <cctype>
#include <exception>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace imageddpo {
namespace {

constexpr size_t kShownCharacters = 60;

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

}  // namespace

std::string YamlFaults::Where(const std::string& key, const YAML::Node& node) const {
  if (file_.empty()) return absl::StrCat("`", key, "`");
  return absl::StrCat("`", key, "` (", Line(file_, node.Mark()), ")");
}

absl::Status YamlFaults::ToStatus() const {
  if (messages_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(messages_, "\n"));
}

absl::StatusOr<YAML::Node> LoadYamlMap(std::string_view text, const std::string& file) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(std::string(text));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(Line(file, error.mark), " is not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is not valid YAML: ", error.what()));
  }
  if (documents.empty()) return YAML::Node(YAML::NodeType::Null);
  if (documents.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        Line(file, documents[1].Mark()), " begins a second YAML document; a file holds one"));
  }
  const YAML::Node root = documents[0];
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
  std::string text = node.Scalar();
  if (text.size() > kShownCharacters) text = absl::StrCat(text.substr(0, kShownCharacters), "…");
  return absl::StrCat("`", text, "`");
}

}  // namespace imageddpo
