#pragma once

#include <string>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// "RUNNING"; "state 99" for one of a later version.
std::string StateName(v1::JobState state);

/// SUCCEEDED, FAILED, CANCELLED: the job has ended. Only a resume by request leads on from the
/// last two.
bool IsFinal(v1::JobState state);

}  // namespace imageddpo
