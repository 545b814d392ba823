#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// What reading job files and cluster.yaml has in common. Used inside common/config only.
namespace imageddpo {

/// Faults found in one file, so that all of them are told at once.
class YamlFaults {
 public:
  /// @param file  for messages; empty: a value that is not from a file.
  explicit YamlFaults(std::string file) : file_(std::move(file)) {}

  /// "`sample.num_steps` (job.yaml:12)"; without a file just the key.
  std::string Where(const std::string& key, const YAML::Node& node) const;
  void Add(std::string message) { messages_.push_back(std::move(message)); }
  bool empty() const { return messages_.empty(); }

  /// OK without faults; else INVALID_ARGUMENT, one fault a line.
  absl::Status ToStatus() const;

 private:
  const std::string file_;
  std::vector<std::string> messages_;
};

/// The one document of a file. Its root is a map, or null for a file without settings.
/// @return INVALID_ARGUMENT naming file and line where it is not UTF-8 (or UTF-16 with a byte order
/// mark), not YAML, holds two documents or is not a map.
absl::StatusOr<YAML::Node> LoadYamlMap(std::string_view text, const std::string& file);

/// True for `key:` with nothing behind it and for a plain ~ or null.
bool IsYamlNull(const YAML::Node& node);

/// The node's value; nullopt where it is of another kind. Numbers in quotes count as numbers,
/// because protobuf's JSON writes 64-bit integers so. Reals are rounded correctly and may be
/// infinite.
std::optional<int64_t> YamlInt64(const YAML::Node& node);
std::optional<uint64_t> YamlUint64(const YAML::Node& node);
std::optional<double> YamlDouble(const YAML::Node& node);
std::optional<bool> YamlBool(const YAML::Node& node);
std::optional<std::string> YamlText(const YAML::Node& node);

/// What stands there, for messages: "`ten`", "a list", "a section of settings", "nothing".
std::string DescribeYaml(const YAML::Node& node);

}  // namespace imageddpo
