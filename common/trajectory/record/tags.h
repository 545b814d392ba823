#pragma once

namespace imageddpo {

/// Tags of the messages and collectives within a gang. Messages with one tag between two ranks
/// arrive in order.
enum GangTag : int {
  kTrajectoryTag = 1,  ///< Rollout to trainer: TrajectoryBatch.
  kWeightsTag = 2,     ///< Leader to rollout: WeightAnnouncement; broadcast: values.
  kReceiptTag = 3,     ///< Rollout to leader: WeightReceipt.
  kEvalTag = 4,        ///< Rollout to leader: EvalBatch.
  kGradientTag = 5,    ///< Between trainers: slices of gradient shards, gathered sums.
  kDataTag = 6,        ///< Rollout to leader: DataReport.
};

}  // namespace imageddpo
