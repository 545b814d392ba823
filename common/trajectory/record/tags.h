#pragma once

namespace imageddpo {

/// Tags of what crosses within a gang; one stream of ordered messages per tag and pair of ranks.
enum GangTag : int {
  kTrajectoryTag = 1,  ///< Rollout to trainer: TrajectoryBatch.
  kWeightsTag = 2,     ///< Leader to rollout: WeightAnnouncement, values.
  kReceiptTag = 3,     ///< Rollout to leader: WeightReceipt.
  kEvalTag = 4,        ///< Rollout to leader: EvalBatch.
  kGradientTag = 5,    ///< Trainer to trainer: gradient shards.
};

}  // namespace imageddpo
