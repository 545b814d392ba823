#pragma once

#include <cstdint>

#include "common/config/resolved_job.h"

namespace imageddpo {

/// The learning rate of an update: a function of its number, so that a resumed job goes on with the
/// rate that it would have had. For update u of U with a warm-up of W updates:
///
///   u < W      peak · (u + 1)/W
///   kConstant  peak
///   kCosine    peak · (m + (1 - m) · (1 + cos(π·(u - W)/(U - W)))/2), m = min_ratio: half a cosine
///              (Loshchilov and Hutter, arXiv:1608.03983, without restarts) that would be at
///              m · peak with the update after the last; it stays there.
///
/// @param update  u, from 0, counted over the job; skipped ones count.
double LearningRateOf(int64_t update, const LearningRateSettings& settings);

}  // namespace imageddpo
