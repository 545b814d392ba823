#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "common/trajectory/record/trajectory.h"
#include "imageddpo/v1/job.pb.h"
#include "tests/unit/loop/small_job.h"

namespace imageddpo {

/// One for each sample of an epoch, over all of its rewards. @param clip  the largest.
std::vector<double> DirectAdvantages(const std::vector<TrajectoryBatch>& batches, double clip);

/// What Trainer does, computed directly and in float64 except for the model itself: every sample
/// alone, the loss of an update as one sum with one backward pass through it, no micro-batches,
/// shards or ranks. For jobs with global advantages.
class DirectTrainer {
 public:
  /// @param model  updated in place.
  DirectTrainer(SmallModel* model, const v1::JobSpec& job);

  /// One update; the fields are those of v1.EpochMetrics.
  struct Row {
    double loss = 0, approx_kl = 0, clipfrac = 0;
    double grad_norm = 0;  ///< Not finite: no step was taken.
    double learning_rate = 0;
  };
  std::vector<Row> TrainEpoch(int64_t epoch, const std::vector<TrajectoryBatch>& batches);

  /// float64 [P], in the order of Lora::Parameters(): the moments of AdamW.
  const at::Tensor& m() const { return m_P_; }
  const at::Tensor& v() const { return v_P_; }
  /// The smallest distance that a ratio has had to where its gradient ends, over clip_range: what
  /// is near to 0 may be clipped by one rounding and not by another.
  double clip_margin() const { return clip_margin_; }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t>;  ///< Micro-batch, sample in it, step.

  at::Tensor LogProb(const TrajectoryBatch& batch, int64_t i, int64_t k) const;
  Row Update(const std::vector<TrajectoryBatch>& batches, const std::vector<int64_t>& micro_batches,
             int64_t age);
  void Step(at::Tensor gradient_P, Row* row);
  double LearningRate() const;  ///< Of the next update.

  SmallModel* model_;
  v1::JobSpec job_;
  JobPlan plan_;
  std::vector<double> advantages_;
  std::map<Key, double> proximal_;  ///< log p at the epoch's start.
  at::Tensor m_P_, v_P_;
  int64_t updates_ = 0, steps_ = 0;
  double clip_margin_ = 1;
};

}  // namespace imageddpo
