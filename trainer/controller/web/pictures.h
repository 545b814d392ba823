#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// The PNG files in `samples` and `eval` of a job's folder, by folder:
/// {"sets": [{"kind": "eval", "epoch": 10, "pictures": ["0-input.png", …]}]}. Sorted by kind and
/// epoch; what "epoch" means stands in docs/formats.md. NOT_FOUND: there is no such job.
absl::StatusOr<std::string> PicturesJson(const JobStore& store, const std::string& job_id);

/// The bytes of one of them. No link is followed, and no other file can be had.
/// @param name  "eval/epoch-000010/0-output.png". @return NOT_FOUND: it is no such name, or there
/// is no such file.
absl::StatusOr<std::string> ReadPicture(const JobStore& store, const std::string& job_id,
                                        const std::string& name);

}  // namespace imageddpo
