#pragma once

#include <google/protobuf/descriptor.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <string>

#include "common/config/yaml_source.h"

// From YAML to the JSON that protobuf reads, checked against the schema on the way, because only
// here are the lines known. Used inside common/config only.
namespace imageddpo {

/// A section. Unknown keys, keys given twice and values of the wrong type are added to `faults`.
/// @param prefix  the section's path with a trailing dot; empty at the top.
nlohmann::json YamlSectionToJson(const YAML::Node& node,
                                 const google::protobuf::Descriptor& section,
                                 const std::string& prefix, YamlFaults* faults);

/// The value of one field; null where it is faulty or where a section is left empty.
nlohmann::json YamlValueToJson(const YAML::Node& node,
                               const google::protobuf::FieldDescriptor& field,
                               const std::string& path, YamlFaults* faults);

}  // namespace imageddpo
