#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// What a job's history says about whether it learns.
enum class Learning {
  kTooEarly,          ///< Too few epochs to tell a trend from noise.
  kLearning,          ///< The reward has risen by more than its noise.
  kFlat,              ///< It has not.
  kCollapsed,         ///< It fell again, or is no longer a number.
  kHackingSuspected,  ///< It has risen, and what is not trained on got worse.
};

/// A job's epochs and evaluations so far, as its events tell them.
struct JobHistory {
  v1::JobSpec spec;                        ///< With defaults filled in, as the API gives it.
  std::vector<v1::EpochMetrics> epochs;    ///< In their order, from the first one on.
  std::vector<v1::EvalEvent> evaluations;  ///< In their order.
};

struct LearningVerdict {
  Learning learning = Learning::kTooEarly;
  int64_t collapse_epoch = 0;  ///< Of kCollapsed: the epoch, counted from 1.
  std::string why;   ///< The numbers behind the verdict, and where there is one, the remedy.
  std::string rule;  ///< The rule that has decided, as docs/learning.md states it.

  /// "learning", "flat", "collapsed at epoch 31", "hacking suspected" or "too early".
  std::string name() const;
};

/// The history that a job's stored events tell. An epoch that is told twice counts once, as it was
/// told last.
JobHistory HistoryOf(const v1::Job& job, const std::vector<v1::JobEvent>& events);

/// The reward of each epoch that the verdict is about: reward_mean; where rewards.normalize or
/// rewards.warmup_epochs change its scale from epoch to epoch, Σ weight · mean value of the trained
/// rewards; with train.objective sft, -sft_loss.
std::vector<double> RewardCurve(const JobHistory& history);

/// How far a reward has fallen from its best.
struct Fall {
  size_t window = 0;                     ///< Epochs in each mean.
  double first = 0, best = 0, last = 0;  ///< Means of the first, the best and the last window.
  double errors = 0;                     ///< best - last, in standard errors.
  size_t best_end = 0;                   ///< Epochs up to the end of the best window.
  int64_t epoch = 0;                     ///< Where it fell, counted from 1.
};

/// @param rewards  of each epoch; at least 2·kShortestWindow, all finite.
/// @return set if the mean of the last window is below the best by more than this many standard
///         errors and by more than half of what had been gained.
std::optional<Fall> FallOf(const std::vector<double>& rewards, double errors);

/// What is not trained on and got worse while the reward rose: of the evaluations by more than
/// `of_evaluations` standard errors, of held-out rewards without evaluations by more than
/// `of_epochs`. A sentence each; empty: nothing, the reward has not risen, or it is too early.
std::vector<std::string> SuspectedHacking(const JobHistory& history, double of_evaluations,
                                          double of_epochs);

/// Judges whether a job learns, by the rules of docs/learning.md. A pure function.
LearningVerdict JudgeLearning(const JobHistory& history);

}  // namespace imageddpo
