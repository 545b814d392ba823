#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// The files other than images that a job's result depends on, with their FileDigest(): those of
/// the model, by their names below `model.path`, and of the rewards, by their paths.
absl::StatusOr<std::map<std::string, std::string>> InputsOf(const ResolvedJob& job);

/// Which of the files are no longer what they were: "unet/config.json, vae/config.json". Files that
/// only one of the two names are none of them: a branch may have other rewards.
/// @param before  an earlier answer as JSON; null: nothing is known.
std::string ChangedInputs(const nlohmann::json& before,
                          const std::map<std::string, std::string>& now);

}  // namespace imageddpo
