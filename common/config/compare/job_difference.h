#pragma once

#include <string>
#include <vector>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A setting that two jobs have differently.
struct SettingDifference {
  std::string setting;  ///< As `--set` names it: "sample.num_steps", "rewards.0.weight".
  /// The values as protobuf's text format has them; lists in brackets; empty: not given.
  std::string before, after;
};

/// What differs between the settings of two jobs, in the order of the schema.
std::vector<SettingDifference> DifferentSettings(const v1::JobSpec& before,
                                                 const v1::JobSpec& after);

}  // namespace imageddpo
