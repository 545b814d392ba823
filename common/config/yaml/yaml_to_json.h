#pragma once

#include <absl/status/status.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <string>

#include "common/config/yaml/yaml_source.h"

// From YAML to messages: through the JSON that protobuf reads, checked against the schema on the
// way, because only here are the lines known. Used inside common/config only.
namespace imageddpo {

/// Reads the settings of a whole file into `message`, which is its schema. A file without settings
/// leaves it as it is.
/// @param root  as LoadYamlMap() returned it.
/// @return INVALID_ARGUMENT naming file, line and key of each fault and, for an unknown key, the
///         closest known one.
absl::Status ReadYamlSettings(const YAML::Node& root, const std::string& file,
                              google::protobuf::Message* message);

/// Reads JSON that YamlSectionToJson() has checked. Protobuf's errors have no line numbers, so
/// common mistakes are reported there.
absl::Status ReadJsonSettings(const nlohmann::json& object, const std::string& file,
                              google::protobuf::Message* message);

/// A section. Unknown keys, keys given twice and values of the wrong type are added to `faults`.
/// @param prefix  the section's path with a trailing dot; empty at the top.
nlohmann::json YamlSectionToJson(const YAML::Node& node,
                                 const google::protobuf::Descriptor& section,
                                 const std::string& prefix, YamlFaults* faults);

/// Puts the value of one field into `object`, under its name; `data.resolution: [W, H]` under width
/// and height.
void PutYamlValue(const YAML::Node& node, const google::protobuf::FieldDescriptor& field,
                  const std::string& path, nlohmann::json* object, YamlFaults* faults);

/// The value of one field; null where it is faulty or where a section is left empty.
nlohmann::json YamlValueToJson(const YAML::Node& node,
                               const google::protobuf::FieldDescriptor& field,
                               const std::string& path, YamlFaults* faults);

}  // namespace imageddpo
