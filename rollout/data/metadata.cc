#include "rollout/data/metadata.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxExcerptBytes = 200;

/// Takes `key` out of `json`; null for absent and for null.
nlohmann::json Take(nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return nullptr;
  nlohmann::json value = std::move(*found);
  json.erase(found);
  return value;
}

absl::Status WrongType(const char* key, const nlohmann::json& value, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", key, "\" is ", Excerpt(value.dump(), kMaxExcerptBytes), ", it must be ", expected));
}

absl::StatusOr<std::string> TakeString(nlohmann::json& json, const char* key) {
  const nlohmann::json value = Take(json, key);
  if (value.is_null()) return std::string();
  if (!value.is_string()) return WrongType(key, value, "a string");
  return value.get<std::string>();
}

absl::StatusOr<std::optional<int64_t>> TakeLabel(nlohmann::json& json) {
  const nlohmann::json value = Take(json, "label");
  if (value.is_null()) return std::nullopt;
  const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX;
  if (!value.is_number_integer() || too_large) {
    return WrongType("label", value, "an integer, the index of the class");
  }
  return value.get<int64_t>();
}

absl::StatusOr<std::string> TakeId(nlohmann::json& json, const std::string& fallback) {
  const nlohmann::json value = Take(json, "id");
  if (value.is_null()) return fallback;
  if (value.is_number_integer()) return value.dump();
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    return WrongType("id", value, "a non-empty string or an integer");
  }
  return value.get<std::string>();
}

absl::StatusOr<Example> ParseLine(std::string_view line, const std::string& dir,
                                  const std::vector<std::string>& allowed_roots) {
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the line is not JSON: ", Excerpt(error.what(), kMaxExcerptBytes)));
  }
  if (!json.is_object()) return absl::InvalidArgumentError("the line is not a JSON object");

  Example example;
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string written, TakeString(json, "file_name"));
  if (written.empty()) {
    return absl::InvalidArgumentError("\"file_name\" is missing; every line must name its image");
  }
  const std::string file_name = PathOf(written, dir);
  IMAGEDDPO_ASSIGN_OR_RETURN(example.file_name, ResolveUnderRoots(file_name, dir, allowed_roots));
  IMAGEDDPO_RETURN_IF_ERROR(CheckIsFile(example.file_name));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string target, TakeString(json, "target_file_name"));
  if (!target.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(example.target_file_name,
                               ResolveUnderRoots(PathOf(target, dir), dir, allowed_roots));
    IMAGEDDPO_RETURN_IF_ERROR(CheckIsFile(example.target_file_name));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(example.text, TakeString(json, "text"));
  IMAGEDDPO_ASSIGN_OR_RETURN(example.label, TakeLabel(json));
  IMAGEDDPO_ASSIGN_OR_RETURN(example.id, TakeId(json, ValidText(file_name)));
  example.metadata = std::move(json);
  return example;
}

}  // namespace

absl::Status CheckIsFile(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the image '", path, "'"));
  }
  if (S_ISREG(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", path, "' is not a file"));
}

absl::StatusOr<std::vector<Example>> ParseMetadata(std::string_view bytes, const std::string& path,
                                                   const std::string& dir,
                                                   const std::vector<std::string>& allowed_roots) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::string_view text, Utf8Of(bytes, path));
  std::vector<Example> examples;
  std::map<std::string, int> line_of_id;
  int line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string place = absl::StrCat(path, ":", line_number);
    absl::StatusOr<Example> example = ParseLine(line, dir, allowed_roots);
    // Whatever went wrong is a fault of the data: one code for all.
    if (!example.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": ", example.status().message()));
    }
    const auto [first, is_new] = line_of_id.emplace(example->id, line_number);
    if (!is_new) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": the id '", example->id,
                                                     "' is that of line ", first->second,
                                                     " too; give each line an \"id\" of its own"));
    }
    examples.push_back(*std::move(example));
  }
  return examples;
}

}  // namespace imageddpo
