#include "common/learning/learning.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/config/reward_types.h"
#include "common/learning/series_statistics.h"

namespace imageddpo {
namespace {

// docs/learning.md states these.
constexpr size_t kFewestEpochs = 8;
constexpr double kRiseErrors = 3;       ///< The reward has risen by more standard errors than this.
constexpr double kCollapseErrors = 4;   ///< Or fallen from its best.
constexpr double kCollapseShare = 0.5;  ///< Of what had been gained.
constexpr double kWorseErrors = 2;      ///< An evaluation got worse by more than this.
constexpr double kInputDistanceShare = 0.5;  ///< Of what a distance to the input began with.
constexpr double kNoSpread = 1e-6;           ///< Standard deviation of an epoch's rewards / size.
constexpr double kMostEqualGroups = 0.9;
constexpr double kFewClipped = 0.01, kManyClipped = 0.5;
constexpr double kSmallLearningRate = 1e-5;
constexpr double kManySkipped = 0.5;

std::string Number(double value) { return absl::StrFormat("%.4g", value); }

/// A number that is not trained on and should not get worse while the reward rises.
struct Guard {
  std::string part;
  double sign = 1;        ///< 1: more is better; -1: less is better.
  bool of_input = false;  ///< A distance or likeness to the input.
};

std::vector<Guard> GuardsOf(const v1::JobSpec& spec) {
  std::vector<Guard> guards;
  const std::vector<std::string> names = RewardNames(spec);
  for (size_t i = 0; i < names.size(); ++i) {
    const v1::RewardSpec& reward = spec.rewards(static_cast<int>(i));
    if (!reward.held_out()) continue;
    const bool is_distance =
        reward.type() == NameOf(RewardType::kL1) || reward.type() == NameOf(RewardType::kL2);
    const RewardTypeInfo* const type = FindRewardType(reward.type());
    const bool is_penalty = is_distance || (reward.has_weight() && reward.weight() < 0);
    const bool is_turned = reward.has_scale() && reward.scale() < 0;
    guards.push_back(
        {.part = absl::StrCat(names[i], ".value"),
         .sign = is_penalty != is_turned ? -1.0 : 1.0,
         .of_input = type != nullptr && type->has_reference && reward.reference() != "target"});
  }
  return guards;
}

/// The values of a part over the epochs; empty where an epoch lacks it.
std::vector<double> PartCurve(const std::vector<v1::EpochMetrics>& epochs,
                              const std::string& part) {
  std::vector<double> values;
  for (const v1::EpochMetrics& epoch : epochs) {
    const auto found = epoch.parts_mean().find(part);
    if (found == epoch.parts_mean().end() || !std::isfinite(found->second)) return {};
    values.push_back(found->second);
  }
  return values;
}

/// How much worse a number got: positive where it did, with the standard error of that.
struct Worsening {
  double from = 0, to = 0;
  double errors = 0;  ///< In standard errors.
};

Worsening WorseningOf(double from, double to, double error, double sign) {
  const double worse = sign * (from - to);
  return {.from = from, .to = to, .errors = error > 0 ? worse / error : 0};
}

std::optional<double> Find(const google::protobuf::Map<std::string, double>& map,
                           const std::string& key) {
  const auto found = map.find(key);
  if (found == map.end() || !std::isfinite(found->second)) return std::nullopt;
  return found->second;
}

/// Between the first and the last evaluation, which are of the same images under the same noise.
std::optional<Worsening> WorseningOfEvaluations(const JobHistory& history, const Guard& guard) {
  if (history.evaluations.size() < 2) return std::nullopt;
  const v1::EvalEvent &first = history.evaluations.front(), &last = history.evaluations.back();
  const std::optional<double> from = Find(first.parts_mean(), guard.part);
  const std::optional<double> to = Find(last.parts_mean(), guard.part);
  if (!from.has_value() || !to.has_value()) return std::nullopt;
  const double error = std::hypot(Find(first.parts_stderr(), guard.part).value_or(0),
                                  Find(last.parts_stderr(), guard.part).value_or(0));
  return WorseningOf(*from, *to, error, guard.sign);
}

bool IsSuspicious(const Worsening& worsening, const Guard& guard, double errors) {
  if (worsening.errors <= errors) return false;
  // Training changes images, so that they move away from their inputs: that alone says nothing.
  return !guard.of_input ||
         std::abs(worsening.to - worsening.from) > kInputDistanceShare * std::abs(worsening.from);
}

/// What got worse; empty: nothing. The limits are in standard errors.
std::vector<std::string> WhatGotWorse(const JobHistory& history, double of_evaluations,
                                      double of_epochs) {
  std::vector<std::string> worse;
  const auto add = [&worse](const std::string& what, const Worsening& worsening) {
    worse.push_back(absl::StrCat(what, " ", Number(worsening.from), " → ", Number(worsening.to),
                                 ", ", Number(worsening.errors), " standard errors"));
  };
  if (history.evaluations.size() > 1) {
    const v1::EvalEvent &first = history.evaluations.front(), &last = history.evaluations.back();
    const Worsening reward =
        WorseningOf(first.reward_mean(), last.reward_mean(),
                    std::hypot(first.reward_stderr(), last.reward_stderr()), 1);
    if (reward.errors > of_evaluations) add("the reward of the evaluations", reward);
  }
  for (const Guard& guard : GuardsOf(history.spec)) {
    if (const auto evaluated = WorseningOfEvaluations(history, guard)) {
      if (IsSuspicious(*evaluated, guard, of_evaluations)) {
        add(absl::StrCat(guard.part, " of the evaluations"), *evaluated);
      }
      continue;
    }
    const std::vector<double> curve = PartCurve(history.epochs, guard.part);
    if (curve.size() < kFewestEpochs) continue;
    const Change change = ChangeOf(curve);
    const Worsening trained = WorseningOf(change.first, change.last, change.error, guard.sign);
    if (IsSuspicious(trained, guard, of_epochs)) add(guard.part, trained);
  }
  return worse;
}

template <typename Value>
double MeanOverLast(const std::vector<v1::EpochMetrics>& epochs, size_t count, const Value& value) {
  std::vector<double> values;
  for (size_t i = epochs.size() - count; i < epochs.size(); ++i) values.push_back(value(epochs[i]));
  return MeanOf(values);
}

/// Why a reward that does not rise might not; the first cause that the numbers show.
std::string CauseOfFlat(const JobHistory& history, const Change& change) {
  const std::vector<v1::EpochMetrics>& epochs = history.epochs;
  const auto mean = [&](const auto& value) { return MeanOverLast(epochs, change.window, value); };
  if (epochs.back().has_sft_loss()) {
    return "the loss of noised images varies with their noise levels: compare the evaluations, or "
           "take more images an epoch or a higher train.learning_rate";
  }
  const double spread = mean([](const v1::EpochMetrics& e) { return e.reward_std(); });
  if (spread <= kNoSpread * std::max(std::abs(change.last), kNoSpread)) {
    return "all rewards of an epoch are equal, so that nothing is better than anything else: take "
           "a reward that tells the images apart";
  }
  const double equal = mean([](const v1::EpochMetrics& e) { return e.zero_std_ratio(); });
  if (equal > kMostEqualGroups) {
    return absl::StrFormat(
        "in %.0f%% of the groups all rewards are equal: take a finer reward, larger groups, or "
        "more noise (sample.noise_strength)",
        100 * equal);
  }
  const v1::EpochMetrics& newest = epochs.back();
  const v1::TrainSpec& train = history.spec.train();
  const int64_t of_update =
      std::max<int64_t>(1, train.batch_size() * train.gradient_accumulation_steps());
  const auto updates = static_cast<double>(newest.samples_seen() / of_update *
                                           std::max<int64_t>(1, train.num_inner_epochs()));
  if (updates > 0 && static_cast<double>(newest.skipped_updates()) > kManySkipped * updates) {
    return absl::StrCat(newest.skipped_updates(),
                        " updates were skipped, more than half: their gradients overflow or are "
                        "spikes; lower train.learning_rate or take model.precision: bf16");
  }
  const double clipped = mean([](const v1::EpochMetrics& e) { return e.clipfrac(); });
  const double rate = mean([](const v1::EpochMetrics& e) { return e.learning_rate(); });
  if (newest.has_learning_rate() && rate < kSmallLearningRate && clipped < kFewClipped) {
    return absl::StrFormat(
        "the updates are very small (learning rate %s, %.1f%% of the ratios clipped): raise "
        "train.learning_rate",
        Number(rate), 100 * clipped);
  }
  if (clipped > kManyClipped) {
    return absl::StrFormat(
        "%.0f%% of the ratios are clipped, so that most of each update is cut: lower "
        "train.learning_rate or raise train.clip_range",
        100 * clipped);
  }
  return "no cause shows in the numbers: more samples an epoch make its trend clearer, a higher "
         "train.learning_rate makes it steeper, and more sample.noise_strength gives the model "
         "more to choose from";
}

std::string RewardText(const Change& change, const JobHistory& history) {
  const bool is_loss = !history.epochs.empty() && history.epochs.back().has_sft_loss();
  return absl::StrCat(is_loss ? "-sft_loss " : "reward ", Number(change.first), " → ",
                      Number(change.last), " (means of the first and last ", change.window,
                      " epochs), ", Number(change.difference()), " ± ", Number(change.error));
}

/// Where the reward stopped being a number; -1: nowhere.
int64_t FirstNotFinite(const std::vector<double>& rewards,
                       const std::vector<v1::EpochMetrics>& epochs) {
  for (size_t i = 0; i < rewards.size(); ++i) {
    if (!std::isfinite(rewards[i]) || !std::isfinite(epochs[i].loss())) {
      return static_cast<int64_t>(i);
    }
  }
  return -1;
}

/// ChangeOf(), with an error that is never below the rounding of rewards that hardly vary.
Change ChangeOfRewards(const std::vector<double>& rewards) {
  Change change = ChangeOf(rewards);
  change.error = std::max(change.error,
                          1e-9 * std::max({std::abs(change.first), std::abs(change.last), 1e-3}));
  return change;
}

std::optional<LearningVerdict> JudgeCollapse(const std::vector<double>& rewards) {
  const std::optional<Fall> fall = FallOf(rewards, kCollapseErrors);
  if (!fall.has_value()) return std::nullopt;
  LearningVerdict verdict{.learning = Learning::kCollapsed};
  verdict.collapse_epoch = fall->epoch;
  verdict.why = absl::StrCat(
      "reward ", Number(fall->first), " → ", Number(fall->best), " → ", Number(fall->last),
      " (means of ", fall->window, " epochs: first, best, last); the fall is ",
      Number(fall->errors),
      " standard errors. Continue from a checkpoint before it (imageddpo resume --from-epoch) with "
      "a lower train.learning_rate, or use the LoRA of that checkpoint");
  verdict.rule = absl::StrFormat(
      "the mean of the last epochs is below the best by more than %g standard errors and more "
      "than half of what had been gained",
      kCollapseErrors);
  return verdict;
}

}  // namespace

std::string LearningVerdict::name() const {
  switch (learning) {
    case Learning::kTooEarly:
      return "too early";
    case Learning::kLearning:
      return "learning";
    case Learning::kFlat:
      return "flat";
    case Learning::kCollapsed:
      return absl::StrCat("collapsed at epoch ", collapse_epoch);
    case Learning::kHackingSuspected:
      return "hacking suspected";
  }
  return "";
}

JobHistory HistoryOf(const v1::Job& job, const std::vector<v1::JobEvent>& events) {
  std::map<int64_t, v1::EpochMetrics> epochs;
  std::map<int64_t, v1::EvalEvent> evaluations;
  for (const v1::JobEvent& event : events) {
    if (event.has_epoch()) epochs[event.epoch().epoch()] = event.epoch();
    if (event.has_eval()) evaluations[event.eval().epoch()] = event.eval();
  }
  JobHistory history{.spec = job.spec(), .epochs = {}, .evaluations = {}};
  for (auto& [number, epoch] : epochs) history.epochs.push_back(std::move(epoch));
  for (auto& [number, eval] : evaluations) history.evaluations.push_back(std::move(eval));
  return history;
}

std::vector<double> RewardCurve(const JobHistory& history) {
  const auto& rewards = history.spec.rewards();
  const bool changes =
      std::any_of(rewards.begin(), rewards.end(), [](const v1::RewardSpec& reward) {
        return reward.normalize() || reward.warmup_epochs() > 0;
      });
  const std::vector<std::string> names = RewardNames(history.spec);
  std::vector<double> curve;
  for (const v1::EpochMetrics& epoch : history.epochs) {
    if (epoch.has_sft_loss()) {
      curve.push_back(-epoch.sft_loss());
      continue;
    }
    if (!changes) {
      curve.push_back(epoch.reward_mean());
      continue;
    }
    double sum = 0;
    for (size_t i = 0; i < names.size(); ++i) {
      const v1::RewardSpec& reward = rewards[static_cast<int>(i)];
      if (reward.held_out()) continue;
      sum += (reward.has_weight() ? reward.weight() : 1) *
             Find(epoch.parts_mean(), absl::StrCat(names[i], ".value")).value_or(0);
    }
    curve.push_back(sum);
  }
  return curve;
}

std::optional<Fall> FallOf(const std::vector<double>& rewards, double errors) {
  const Change change = ChangeOfRewards(rewards);
  std::vector<double> means;
  for (size_t i = 0; i + change.window <= rewards.size(); ++i) {
    means.push_back(MeanOf(absl::MakeConstSpan(rewards).subspan(i, change.window)));
  }
  const auto best = std::max_element(means.begin(), means.end());
  const double fall = *best - means.back(), gain = *best - means.front();
  if (fall <= errors * change.error || fall <= kCollapseShare * gain) return std::nullopt;
  const double middle = (*best + means.back()) / 2;
  const auto below =
      std::find_if(best, means.end(), [middle](double mean) { return mean < middle; });
  return Fall{.window = change.window,
              .first = means.front(),
              .best = *best,
              .last = means.back(),
              .errors = fall / change.error,
              .best_end = static_cast<size_t>(best - means.begin()) + change.window,
              .epoch = below - means.begin() + static_cast<int64_t>(change.window / 2) + 1};
}

std::vector<std::string> SuspectedHacking(const JobHistory& history, double of_evaluations,
                                          double of_epochs) {
  const std::vector<double> rewards = RewardCurve(history);
  if (rewards.size() < kFewestEpochs) return {};
  const Change change = ChangeOfRewards(rewards);
  if (change.difference() <= kRiseErrors * change.error) return {};
  return WhatGotWorse(history, of_evaluations, of_epochs);
}

LearningVerdict JudgeLearning(const JobHistory& history) {
  const std::vector<double> rewards = RewardCurve(history);
  LearningVerdict verdict;
  if (const int64_t epoch = FirstNotFinite(rewards, history.epochs); epoch >= 0) {
    verdict.learning = Learning::kCollapsed;
    verdict.collapse_epoch = epoch + 1;
    verdict.why = "reward or loss is no longer a finite number";
    verdict.rule = "an epoch's reward or loss is not finite";
    return verdict;
  }
  if (rewards.size() < kFewestEpochs) {
    verdict.why = absl::StrCat(rewards.size(), " of at least ", kFewestEpochs, " epochs");
    verdict.rule = absl::StrCat("fewer than ", kFewestEpochs, " epochs are finished");
    return verdict;
  }
  const Change change = ChangeOfRewards(rewards);
  if (std::optional<LearningVerdict> collapse = JudgeCollapse(rewards)) return *collapse;
  verdict.why = RewardText(change, history);
  if (change.difference() <= kRiseErrors * change.error) {
    verdict.learning = Learning::kFlat;
    absl::StrAppend(&verdict.why, "; ", CauseOfFlat(history, change));
    verdict.rule = absl::StrFormat(
        "the mean of the last epochs is not above that of the first by more than %g standard "
        "errors",
        kRiseErrors);
    return verdict;
  }
  const std::vector<std::string> worse = WhatGotWorse(history, kWorseErrors, kRiseErrors);
  if (!worse.empty()) {
    verdict.learning = Learning::kHackingSuspected;
    absl::StrAppend(&verdict.why, ", but worse: ", absl::StrJoin(worse, "; "),
                    ". Look at the pictures, and at what the reward does not see");
    verdict.rule = absl::StrFormat(
        "the reward has risen, and an evaluation's reward or a held-out reward got worse by more "
        "than %g standard errors (%g without evaluations)",
        kWorseErrors, kRiseErrors);
    return verdict;
  }
  verdict.learning = Learning::kLearning;
  verdict.rule = absl::StrFormat(
      "the mean of the last epochs is above that of the first by more than %g standard errors, and "
      "nothing held out got worse",
      kRiseErrors);
  return verdict;
}

}  // namespace imageddpo
