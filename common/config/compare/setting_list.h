#pragma once

#include <string>
#include <vector>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A setting of a job by its name in job files, as "train.learning_rate".
struct JobSetting {
  std::string name;
  std::string value;
  std::string default_value;  ///< "–" where there is none.

  bool is_default() const { return value == default_value; }
};

/// All settings of a job, in the order of the schema. Defaults are those of a job with its model,
/// data and rewards and nothing else.
std::vector<JobSetting> SettingsOf(const v1::JobSpec& spec);

}  // namespace imageddpo
