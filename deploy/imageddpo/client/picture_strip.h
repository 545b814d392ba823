#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/io/image.h"
#include "deploy/imageddpo/client/client.h"

namespace imageddpo {

/// Held-out images of a job beside each other, a row: of each its input, what the model made of it
/// in the evaluation after `first_epoch` epochs, and in that after `newest_epoch`; the last two are
/// one if the epochs are. Every picture is kStripHeight pixels high.
/// @param most  images at most; as many as there are pictures of.
/// @return NOT_FOUND: there are no pictures of these evaluations, or not yet.
absl::StatusOr<Image> ReadPictureStrip(Client& client, const std::string& job_id,
                                       int64_t first_epoch, int64_t newest_epoch, int most);

inline constexpr int kStripHeight = 160;

}  // namespace imageddpo
