#pragma once

#include <cstdint>
#include <utility>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Which LoRA version samples which epoch, and what else is due at a version. A function of the
/// job's settings alone, so every rank computes the same, also after a resume. Version v is the
/// LoRA after v trained epochs. With k = sample.max_staleness, epoch e is sampled with version
/// max(0, e - k); k = 0 is lock-step: sample, train, publish in turn. Immutable.
class VersionSchedule {
 public:
  /// @param job  defaults filled in.
  explicit VersionSchedule(const v1::JobSpec& job);

  int64_t num_epochs() const { return num_epochs_; }
  int64_t max_staleness() const { return max_staleness_; }

  int64_t SamplingVersion(int64_t epoch) const;

  /// The epochs that `version` samples, as [begin, end); may be empty.
  std::pair<int64_t, int64_t> EpochsOf(int64_t version) const;

  /// The version with which a job that has trained `epoch` epochs starts or continues: the oldest
  /// that the epochs from `epoch` on are sampled with.
  int64_t OldestVersionAt(int64_t epoch) const { return SamplingVersion(epoch); }

  /// Whether held-out images are evaluated: under version 0, the last version, and every
  /// `eval.every_epochs` in between.
  bool EvaluationDue(int64_t version) const;

  /// Whether that evaluation is of the moving average (`eval.use_ema`), which is then published
  /// too, before the version.
  bool EvaluatesAverage(int64_t version) const { return use_ema_ && EvaluationDue(version); }

  /// Whether rollout ranks need this version, to sample or to evaluate.
  bool IsPublished(int64_t version) const;

  /// Whether the settings ask for a checkpoint after this number of trained epochs.
  bool CheckpointDue(int64_t epochs_trained) const;

 private:
  int64_t num_epochs_;
  int64_t max_staleness_;
  int64_t eval_every_;  ///< -1: the job has no held-out images.
  int64_t checkpoint_every_;
  bool use_ema_;
};

}  // namespace imageddpo
