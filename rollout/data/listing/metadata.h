#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "rollout/data/listing/listing.h"
#include "rollout/data/listing/path_resolver.h"

namespace imageddpo {

/// Reads a set's metadata files, in the order of the calls, into its listing. A line is an object
/// with `file_name` (or `image_file_name`, `input_file_name`), the text column, `label`, `id`,
/// `target_file_name`; other keys that end in `_file_name` become absolute paths and stay, with all
/// others, the example's metadata. null counts as absent, an empty field of a CSV too.
class MetadataReader {
 public:
  /// A metadata file. All names are relative to `dir`.
  struct File {
    std::string path;    ///< For messages ("path:line: …").
    std::string dir;     ///< Its folder, absolute.
    std::string prefix;  ///< Its folder within the set: "", or "a/b/". Ids begin with it.
  };

  /// @param listing  outlives the reader, as does `resolver`.
  MetadataReader(std::string text_column, PathResolver* resolver, Listing* listing)
      : text_column_(std::move(text_column)), resolver_(resolver), listing_(listing) {}

  /// Both: INVALID_ARGUMENT naming file and line. @param bytes  the file's content.
  absl::Status ReadJsonLines(std::string_view bytes, const File& file);
  absl::Status ReadCsv(std::string_view bytes, const File& file);

  /// After the last file: labels that are names become indices into the sorted names.
  /// INVALID_ARGUMENT where some are names and others numbers, or no line has the text column that
  /// was asked for.
  absl::Status Finish();

  /// Every file that a line names, resolved.
  const std::unordered_set<std::string>& used_files() const { return used_files_; }

 private:
  absl::Status AddRow(nlohmann::json row, const File& file, int line);
  absl::Status ReadRow(nlohmann::json row, const File& file, const std::string& place);
  absl::Status ReadLabel(const nlohmann::json& value, const std::string& place, Example* example);
  /// The file that the row's `key` names; empty: the row has no such key.
  absl::StatusOr<std::string> TakeFile(nlohmann::json& row, const std::string& key,
                                       const File& file, std::string* written);

  const std::string text_column_;
  PathResolver* const resolver_;
  Listing* const listing_;
  std::unordered_map<std::string, std::string> place_of_id_;
  std::unordered_set<std::string> used_files_;
  std::set<std::string> columns_;  ///< Of all rows, for messages; not many.
  bool has_text_ = false;
  std::map<std::string, std::vector<int64_t>> examples_of_class_;
  std::string first_number_, first_name_;  ///< Where labels are numbers, and where names.
};

}  // namespace imageddpo
