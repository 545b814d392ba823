#include "rollout/data/listing/metadata.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "rollout/data/listing/csv.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxExcerptBytes = 200;
constexpr size_t kMaxColumns = 64;
constexpr double kMaxExactInteger = 9007199254740992.0;  // 2^53: every whole double up to it.
constexpr const char* kImageKeys[] = {"file_name", "image_file_name", "input_file_name"};
constexpr const char* kTextColumn = "text";
constexpr const char* kCaptionColumns[] = {"caption", "prompt", "captions", "description"};

/// Takes `key` out of `json`; null for absent and for null.
nlohmann::json Take(nlohmann::json& json, const std::string& key) {
  const auto found = json.find(key);
  if (found == json.end()) return nullptr;
  nlohmann::json value = std::move(*found);
  json.erase(found);
  return value;
}

absl::Status WrongType(const std::string& key, const nlohmann::json& value, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", key, "\" is ", Excerpt(value.dump(), kMaxExcerptBytes), ", it must be ", expected));
}

absl::StatusOr<std::string> TakeString(nlohmann::json& json, const std::string& key) {
  const nlohmann::json value = Take(json, key);
  if (value.is_null()) return std::string();
  if (!value.is_string()) return WrongType(key, value, "a string");
  return value.get<std::string>();
}

/// The whole number that a label or an id is, or nullopt where it is none.
std::optional<int64_t> WholeNumber(double value) {
  if (std::nearbyint(value) != value || std::abs(value) > kMaxExactInteger) return std::nullopt;
  return static_cast<int64_t>(value);
}

absl::StatusOr<std::string> TakeId(nlohmann::json& json, const std::string& fallback) {
  const nlohmann::json value = Take(json, "id");
  if (value.is_null()) return fallback;
  if (value.is_number_integer()) return value.dump();
  if (value.is_number_float()) {  // As data frames write integers.
    const std::optional<int64_t> number = WholeNumber(value.get<double>());
    if (number) return absl::StrCat(*number);
  }
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    return WrongType("id", value, "a non-empty string or an integer");
  }
  return value.get<std::string>();
}

}  // namespace

absl::Status MetadataReader::ReadJsonLines(std::string_view bytes, const File& file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::string_view text, Utf8Of(bytes, file.path));
  int line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(line, absl::StrCat(file.path, ":", line_number)));
    nlohmann::json row;
    try {
      row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      // Data frames write what is missing as NaN.
      if (row.is_discarded()) row = nlohmann::json::parse(NonFiniteAsNull(line));
    } catch (const nlohmann::json::exception& error) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path, ":", line_number,
                       ": the line is not JSON: ", Excerpt(error.what(), kMaxExcerptBytes)));
    }
    IMAGEDDPO_RETURN_IF_ERROR(AddRow(std::move(row), file, line_number));
  }
  return absl::OkStatus();
}

absl::Status MetadataReader::ReadCsv(std::string_view bytes, const File& file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(bytes, file.path));
  const auto is_image_key = [](const std::string& name) {
    return std::find(std::begin(kImageKeys), std::end(kImageKeys), name) != std::end(kImageKeys);
  };
  // Spreadsheets write semicolons or tabs where a comma is the decimal separator.
  std::vector<std::string> header, first_header;
  char delimiter = ',';
  for (const char candidate : {',', ';', '\t'}) {
    CsvReader reader(text, candidate);
    const absl::StatusOr<std::vector<std::string>> row = reader.Next();
    if (!row.ok()) return Annotate(row.status(), absl::StrCat(file.path, ":", reader.line()));
    if (candidate == ',') first_header = *row;
    std::vector<std::string> names;
    for (const std::string& name : *row) {
      names.emplace_back(absl::StripAsciiWhitespace(name));
    }
    if (!std::any_of(names.begin(), names.end(), is_image_key)) continue;
    header = std::move(names);
    delimiter = candidate;
    break;
  }
  if (header.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, ":1: no column is named \"file_name\"; the columns are ",
                     Excerpt(absl::StrJoin(first_header, ", "), kMaxExcerptBytes)));
  }
  CsvReader reader(text, delimiter);
  static_cast<void>(reader.Next());
  while (true) {
    const absl::StatusOr<std::vector<std::string>> fields = reader.Next();
    const std::string place = absl::StrCat(file.path, ":", reader.line());
    if (!fields.ok()) return Annotate(fields.status(), place);
    if (fields->empty()) return absl::OkStatus();
    if (fields->size() != header.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          place, ": the row has ", fields->size(), " fields and the header has ", header.size(),
          "; a text with commas, quotes or line ends is written in double quotes"));
    }
    nlohmann::json row = nlohmann::json::object();
    for (size_t i = 0; i < header.size(); ++i) {
      if (!(*fields)[i].empty()) row[header[i]] = (*fields)[i];
    }
    for (const std::string& column : header) {
      if (columns_.size() < kMaxColumns) columns_.insert(column);
    }
    IMAGEDDPO_RETURN_IF_ERROR(AddRow(std::move(row), file, reader.line()));
  }
}

absl::Status MetadataReader::AddRow(nlohmann::json row, const File& file, int line) {
  const std::string place = absl::StrCat(file.path, ":", line);
  const absl::Status status = ReadRow(std::move(row), file, place);
  // Whatever went wrong is a fault of the data: one code for all.
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", status.message()));
}

absl::StatusOr<std::string> MetadataReader::TakeFile(nlohmann::json& row, const std::string& key,
                                                     const File& file, std::string* written) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string name, TakeString(row, key));
  if (name.empty()) return std::string();
  *written = PathOf(name, file.dir);
  absl::StatusOr<std::string> path = resolver_->File(*written, file.dir);
  if (absl::IsNotFound(path.status()) && absl::StrContains(name, '\\')) {
    // As Windows writes paths.
    const std::string with_slashes = absl::StrReplaceAll(name, {{"\\", "/"}});
    absl::StatusOr<std::string> other = resolver_->File(with_slashes, file.dir);
    if (!absl::IsNotFound(other.status())) {
      *written = with_slashes;
      path = std::move(other);
    }
  }
  if (path.ok()) used_files_.insert(*path);
  return path;
}

absl::Status MetadataReader::ReadRow(nlohmann::json row, const File& file,
                                     const std::string& place) {
  if (!row.is_object()) return absl::InvalidArgumentError("the line is not a JSON object");
  for (const auto& item : row.items()) {
    if (columns_.size() < kMaxColumns) columns_.insert(item.key());
  }
  Example example;
  std::string written;
  for (const char* key : kImageKeys) {
    absl::StatusOr<std::string> path = TakeFile(row, key, file, &written);
    if (absl::IsNotFound(path.status())) {
      listing_->missing.push_back(absl::StrCat(place, ": ", path.status().message()));
      return absl::OkStatus();
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(example.file_name, std::move(path));
    if (!example.file_name.empty()) break;
  }
  if (example.file_name.empty()) {
    return absl::InvalidArgumentError("\"file_name\" is missing; every line must name its image");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(example.text, TakeString(row, text_column_));
  has_text_ = has_text_ || !example.text.empty();
  IMAGEDDPO_ASSIGN_OR_RETURN(example.id, TakeId(row, ValidText(file.prefix + written)));
  const nlohmann::json label = Take(row, "label");
  for (auto item = row.begin(); item != row.end();) {
    const std::string key = (item++).key();
    if (!absl::EndsWith(key, "_file_name")) continue;
    std::string name;
    absl::StatusOr<std::string> path = TakeFile(row, key, file, &name);
    if (absl::IsNotFound(path.status())) {
      listing_->missing.push_back(
          absl::StrCat(place, ": \"", key, "\": ", path.status().message()));
      return absl::OkStatus();
    }
    if (!path.ok()) return Annotate(path.status(), absl::StrCat("\"", key, "\""));
    if (key == "target_file_name") {
      example.target_file_name = *path;
    } else if (!path->empty()) {
      row[key] = ValidText(*path);
    }
  }
  const auto [first, is_new] = place_of_id_.emplace(example.id, place);
  if (!is_new) {
    const std::string prefix = file.path + ":";
    const bool is_here = absl::StartsWith(first->second, prefix);
    return absl::InvalidArgumentError(
        absl::StrCat("the id '", example.id, "' is that of line ",
                     is_here ? first->second.substr(prefix.size()) : first->second,
                     " too; give each line an \"id\" of its own"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(ReadLabel(label, place, &example));
  example.metadata = std::move(row);
  listing_->examples.Add(example);
  return absl::OkStatus();
}

absl::Status MetadataReader::ReadLabel(const nlohmann::json& value, const std::string& place,
                                       Example* example) {
  if (value.is_null()) return absl::OkStatus();
  std::optional<int64_t> number;
  bool is_name = false;
  if (value.is_number_unsigned()) {
    if (value.get<uint64_t>() <= INT64_MAX) number = value.get<int64_t>();
  } else if (value.is_number_integer()) {
    number = value.get<int64_t>();
  } else if (value.is_number_float()) {
    number = WholeNumber(value.get<double>());
  } else if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    int64_t integer = 0;
    double real = 0;
    if (absl::SimpleAtoi(text, &integer)) {
      number = integer;
    } else if (absl::SimpleAtod(text, &real)) {
      number = WholeNumber(real);
    } else {
      is_name = text.find_first_not_of(" \t") != std::string::npos;
      if (is_name) examples_of_class_[text].push_back(listing_->examples.size());
    }
  }
  if (!number && !is_name) {
    return WrongType("label", value, "an integer, the index of the class, or the class's name");
  }
  example->label = number;
  std::string& mine = is_name ? first_name_ : first_number_;
  const std::string& other = is_name ? first_number_ : first_name_;
  if (mine.empty()) mine = place;
  if (other.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"label\" is ", is_name ? "the name " : "the number ",
                   Excerpt(value.dump(), kMaxExcerptBytes), ", and in ", other, " it is a ",
                   is_name ? "number" : "name", "; write all of them in one way"));
}

absl::Status MetadataReader::Finish() {
  std::vector<std::string> names;
  for (const auto& [name, examples] : examples_of_class_) {
    for (const int64_t i : examples) {
      listing_->examples.SetLabel(i, static_cast<int64_t>(names.size()));
    }
    names.push_back(name);
  }
  if (!names.empty()) listing_->examples.SetClassNames(std::move(names));
  if (has_text_ || listing_->examples.size() == 0) return absl::OkStatus();
  if (text_column_ != kTextColumn && !columns_.contains(text_column_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`data.text_column` is ", text_column_, ", which no line of ", ValidText(listing_->path),
        "'s metadata has; there are ", Excerpt(absl::StrJoin(columns_, ", "), kMaxExcerptBytes)));
  }
  std::vector<std::string> captions;
  for (const char* column : kCaptionColumns) {
    if (columns_.contains(column) && column != text_column_) captions.emplace_back(column);
  }
  if (captions.size() == 1) {
    listing_->warnings.push_back(
        absl::StrCat("no image of ", ValidText(listing_->path), " has a \"", text_column_,
                     "\", so `data.prompt` "
                     "is used for all; if the prompts are in \"",
                     captions.front(), "\", set `data.text_column: ", captions.front(), "`"));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
