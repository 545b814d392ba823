#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace imageddpo {

/// One setting of a job or of a service, as the schema defines it.
struct Setting {
  std::string path;  ///< "sample.num_steps", "rewards.weight" (list items have no index).
  const google::protobuf::FieldDescriptor* field;
};

/// Every setting of a file whose schema is `root` (v1.JobSpec, v1.ClusterFile): sections and their
/// settings, in the schema's order. Tests hold the defaults, docs/settings.md and
/// deploy/cluster.yaml against it.
std::vector<Setting> AllSettings(const google::protobuf::Descriptor& root);

/// What is wrong with a key that `section` does not have, with the closest known one:
/// "unknown setting `sample.num_step` (job.yaml:12); did you mean `num_steps`?".
/// @param section  of a schema whose root is the first message in its .proto file.
/// @param prefix   the section's path with a trailing dot; empty at the top.
/// @param where    "`sample.num_step` (job.yaml:12)".
std::string UnknownSetting(const google::protobuf::Descriptor& section, const std::string& prefix,
                           const std::string& key, const std::string& where);

/// Whether `auto` may stand for the number, which is then chosen at submit, as where it is left
/// out.
bool MayBeAuto(const google::protobuf::FieldDescriptor& field);

/// Whether this is data.resolution, which takes a list of two as well.
bool IsResolution(const google::protobuf::FieldDescriptor& field);

/// What a value of the field looks like, for messages: "a whole number", "text", "a list of text".
std::string ExpectedValue(const google::protobuf::FieldDescriptor& field);

}  // namespace imageddpo
