#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/choices.h"
#include "nlohmann/json.hpp"
#include "rollout/data/listing/check.h"
#include "rollout/data/listing/fingerprint.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {

struct OpenOptions {
  ListingOptions listing;
  OnDataError on_error = OnDataError::kFail;
  CheckOptions check;
  /// OpenedSet::ToJson() of the time of the checkpoint from which the job goes on; null: there is
  /// none, or it is of a version that kept nothing of the data.
  nlohmann::json before;
  bool allow_change = false;  ///< The set may differ from `before`.
};

/// A set of images as a job uses it.
struct OpenedSet {
  Listing listing;         ///< `examples` are those that are used, `warnings` all there are.
  int64_t num_listed = 0;  ///< Examples of which some may have been skipped.
  std::vector<std::string> skipped;  ///< Ids, sorted. Missing files have none.
  Fingerprint fingerprint;           ///< Of the examples that are used.

  /// Kept in a checkpoint's state.json.
  nlohmann::json ToJson() const;
};

/// Lists a set and checks its images: the headers of all files always, so that what is no image is
/// found before anything is sampled, and with on_error skip every pixel. Which images are used is a
/// function of the files and of `before` alone, the same on every rank: the ids that were skipped
/// before are skipped again, without decoding anything, if the rest has not changed.
/// @return INVALID_ARGUMENT naming the bad files (on_error fail: all of them; skip: where none is
///         left), or what has changed since the checkpoint; CANCELLED; as ListExamples().
absl::StatusOr<OpenedSet> OpenSet(const std::string& path, const OpenOptions& options);

}  // namespace imageddpo
