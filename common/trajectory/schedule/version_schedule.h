#pragma once

#include <cstdint>
#include <utility>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Which LoRA version samples which epoch, and what else happens at a version: a function of the
/// job's settings alone, so that every rank knows it and a resume repeats it. Version v is the LoRA
/// after v trained epochs; with k = sample.max_staleness, epoch e is sampled with version
/// max(0, e - k). 0 is lock-step: sample, train, publish in turn.
class VersionSchedule {
 public:
  /// @param job  defaults filled in.
  explicit VersionSchedule(const v1::JobSpec& job);

  int64_t num_epochs() const { return num_epochs_; }
  int64_t max_staleness() const { return max_staleness_; }

  int64_t SamplingVersion(int64_t epoch) const;

  /// [begin, end) of the epochs that `version` samples; may be empty.
  std::pair<int64_t, int64_t> EpochsOf(int64_t version) const;

  /// The oldest version that the epochs from `epoch` on are sampled with: where a job that has
  /// trained `epoch` epochs starts or goes on.
  int64_t OldestVersionAt(int64_t epoch) const { return SamplingVersion(epoch); }

  /// Held-out images are looked at under version 0, the last one and every so often between.
  bool EvaluationDue(int64_t version) const;

  /// Rollout ranks need this version, to sample or to evaluate.
  bool IsPublished(int64_t version) const;

  /// A checkpoint is made once so many epochs have been trained.
  bool CheckpointDue(int64_t epochs_trained) const;

 private:
  int64_t num_epochs_;
  int64_t max_staleness_;
  int64_t eval_every_;  ///< -1: the job has no held-out images.
  int64_t checkpoint_every_;
};

}  // namespace imageddpo
