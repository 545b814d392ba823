#pragma once

#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// Protobuf's JSON mapping with the schema's own names and all scalars present, with one exception:
/// 64-bit integers are numbers, not text, so that jq and friends can compare them. protobuf reads
/// it.
std::string MessageToJson(const google::protobuf::Message& message);
std::string JobToJson(const v1::Job& job);
/// {"jobs": [...]}.
std::string JobsToJson(const std::vector<v1::Job>& jobs);

/// One job on several lines, for a person, with a verdict on whether it learns.
/// @param events  its stored ones.
std::string JobDetails(const v1::Job& job, const std::vector<v1::JobEvent>& events);
/// A line per job under headings.
std::string JobTable(const std::vector<v1::Job>& jobs);
/// Its settings as a job file that can be submitted again, under a comment that says what it is.
std::string JobAsFile(const v1::Job& job);

}  // namespace imageddpo
