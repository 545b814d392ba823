#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// The PNG files in `samples` and `eval` of a job's folder, by folder:
/// {"sets": [{"kind": "eval", "epoch": 10, "pictures": ["0-input.png", …]}]}. Sorted by kind and
/// epoch; what "epoch" means stands in docs/formats.md. NOT_FOUND: there is no such job.
absl::StatusOr<std::string> PicturesJson(const JobStore& store, const std::string& job_id);

/// What each image of an evaluation scored: {"scores": [{"id": "…", "reward": 0.5, …}, …]}, rows of
/// eval/epoch-NNNNNN.jsonl. The first belongs to 0-input.png and 0-output.png, and so on; at most
/// 64. Empty: there is no such file.
/// @param epoch  epochs trained before it. NOT_FOUND: there is no such job.
absl::StatusOr<std::string> ScoresJson(const JobStore& store, const std::string& job_id,
                                       int64_t epoch);

/// The bytes of a picture. No link is followed, and no other file can be had.
/// @param name  "eval/epoch-000010/0-output.png". @return NOT_FOUND: it is no such name, or there
/// is no such file.
absl::StatusOr<std::string> ReadPicture(const JobStore& store, const std::string& job_id,
                                        const std::string& name);

}  // namespace imageddpo
