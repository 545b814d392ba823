#include "trainer/guards/learning_guards.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/learning/series_statistics.h"

namespace imageddpo {
namespace {

constexpr double kNoSpread = 1e-6;      // Standard deviation of an epoch's rewards / their mean.
constexpr double kStatisticErrors = 4;  // A change of the images is more than noise.
constexpr double kSmallestStatistic = 1e-3;

/// Whether a held-out reward measures images whatever is taught: what they look like, or how far
/// they are from their inputs.
bool MeasuresImages(const RewardConfig& reward) {
  switch (reward.type) {
    case RewardType::kImageStat:
      return reward.held_out;
    case RewardType::kL1:
    case RewardType::kL2:
    case RewardType::kPsnr:
    case RewardType::kSsim:
      return reward.held_out && reward.reference == RewardReference::kInput;
    default:
      return false;
  }
}

/// The values of a part, without the epochs that lack it.
std::vector<double> CurveOf(const JobHistory& history, const std::string& part) {
  std::vector<double> curve;
  for (const v1::EpochMetrics& epoch : history.epochs) {
    const auto found = epoch.parts_mean().find(part);
    if (found == epoch.parts_mean().end()) continue;  // It was not finite: see Remember().
    curve.push_back(found->second);
  }
  return curve;
}

}  // namespace

LearningGuards::LearningGuards(const ResolvedJob& job) : settings_(job.guards()) {
  history_.spec = job.spec();
  for (const RewardConfig& reward : job.rewards()) {
    value_parts_.push_back(absl::StrCat(reward.name, ".value"));
    if (reward.type == RewardType::kKlToBase) kl_part_ = value_parts_.back();
    if (MeasuresImages(reward)) image_parts_.push_back(value_parts_.back());
  }
}

void LearningGuards::OnEvaluation(const v1::EvalReport& report) {
  const auto& known = history_.evaluations;
  if (!known.empty() && report.epoch() <= known.back().epoch()) return;
  if (!early_.empty() && report.epoch() <= early_.back().epoch()) return;
  v1::EvalEvent& evaluation = early_.emplace_back();
  evaluation.set_epoch(report.epoch());
  evaluation.set_reward_mean(report.reward_mean());
  evaluation.set_reward_stderr(report.reward_stderr());
  for (const std::string& part : value_parts_) {
    const auto mean = report.parts_mean().find(part);
    const auto error = report.parts_stderr().find(part);
    if (mean == report.parts_mean().end() || error == report.parts_stderr().end()) continue;
    (*evaluation.mutable_parts_mean())[part] = mean->second;
    (*evaluation.mutable_parts_stderr())[part] = error->second;
  }
}

void LearningGuards::TakeEvaluations(int64_t epoch) {
  const int64_t sampled_with = epoch - history_.spec.sample().max_staleness();
  for (; !early_.empty() && early_.front().epoch() <= sampled_with; early_.pop_front()) {
    history_.evaluations.push_back(std::move(early_.front()));
  }
}

void LearningGuards::Remember(const v1::EpochMetrics& epoch) {
  if (!std::isfinite(epoch.reward_mean()) || !std::isfinite(epoch.sft_loss())) return;
  v1::EpochMetrics& kept = history_.epochs.emplace_back();
  kept.set_epoch(epoch.epoch());
  kept.set_reward_mean(epoch.reward_mean());
  if (epoch.has_sft_loss()) kept.set_sft_loss(epoch.sft_loss());
  for (const std::string& part : value_parts_) {
    const auto found = epoch.parts_mean().find(part);
    if (found != epoch.parts_mean().end() && std::isfinite(found->second)) {
      (*kept.mutable_parts_mean())[part] = found->second;
    }
  }
}

std::vector<Firing> LearningGuards::Judge(const v1::EpochMetrics& epoch) {
  TakeEvaluations(epoch.epoch());
  Remember(epoch);
  std::vector<Firing> found;
  const auto judge = [&](Guard guard, const GuardSettings& settings, std::optional<Firing> firing) {
    if (settings.policy == GuardPolicy::kOff) return;
    const std::string name = GuardName(guard);
    if (!firing.has_value()) {
      active_.erase(name);
    } else if (active_.insert(name).second) {
      firing->guard = guard;
      firing->epoch = epoch.epoch();
      firing->limit = settings.threshold;
      found.push_back(*std::move(firing));
    }
  };
  judge(Guard::kRewardCollapse, settings_.reward_collapse, Collapse());
  judge(Guard::kApproxKl, settings_.approx_kl, ApproxKl(epoch));
  judge(Guard::kKlToBase, settings_.kl_to_base, KlToBase(epoch));
  judge(Guard::kZeroSpread, settings_.zero_spread, ZeroSpread(epoch));
  judge(Guard::kImageStatistics, settings_.image_statistics, ImageStatistics());
  judge(Guard::kHeldOut, settings_.held_out, HeldOut());
  return found;
}

std::optional<Firing> LearningGuards::Collapse() const {
  if (history_.epochs.size() < kFewestEpochs) return std::nullopt;
  const std::optional<Fall> fall =
      FallOf(RewardCurve(history_), settings_.reward_collapse.threshold);
  if (!fall.has_value()) return std::nullopt;
  return Firing{.value = fall->errors,
                .good_epochs = history_.epochs[fall->best_end - 1].epoch() + 1,
                .what = absl::StrCat("the reward has fallen from ", fall->best, " to ", fall->last,
                                     " (means of ", fall->window, " epochs), ", fall->errors,
                                     " standard errors")};
}

std::optional<Firing> LearningGuards::ApproxKl(const v1::EpochMetrics& epoch) const {
  if (epoch.approx_kl() <= settings_.approx_kl.threshold) return std::nullopt;
  return Firing{.value = epoch.approx_kl(),
                .good_epochs = epoch.epoch(),
                .what = absl::StrCat("approx_kl is ", epoch.approx_kl(), ", above ",
                                     settings_.approx_kl.threshold)};
}

std::optional<Firing> LearningGuards::KlToBase(const v1::EpochMetrics& epoch) const {
  const double limit = settings_.kl_to_base.threshold;
  const auto part = epoch.parts_mean().find(kl_part_);
  const double value = epoch.has_kl_to_base()             ? epoch.kl_to_base()
                       : part == epoch.parts_mean().end() ? 0
                                                          : part->second;
  if (limit <= 0 || value <= limit) return std::nullopt;
  return Firing{
      .value = value,
      .good_epochs = epoch.epoch(),
      .what = absl::StrCat("the divergence from the base model is ", value, ", above ", limit)};
}

std::optional<Firing> LearningGuards::ZeroSpread(const v1::EpochMetrics& epoch) {
  if (epoch.has_sft_loss()) return std::nullopt;  // There are no rewards.
  const bool is_equal =
      epoch.reward_std() <= kNoSpread * std::max(std::abs(epoch.reward_mean()), kNoSpread);
  const double share = epoch.has_zero_std_ratio() ? epoch.zero_std_ratio() : is_equal ? 1 : 0;
  without_spread_ = share > settings_.zero_spread.threshold ? without_spread_ + 1 : 0;
  if (without_spread_ < kEpochsWithoutSpread) return std::nullopt;
  return Firing{.value = share,
                .good_epochs = std::max<int64_t>(0, epoch.epoch() + 1 - without_spread_),
                .what = absl::StrCat("for ", without_spread_, " epochs, the rewards were equal in ",
                                     100 * share, "% of what is compared: nothing is learned")};
}

std::optional<Firing> LearningGuards::ImageStatistics() const {
  if (history_.epochs.size() < kFewestEpochs) return std::nullopt;
  for (const std::string& part : image_parts_) {
    const std::vector<double> curve = CurveOf(history_, part);
    if (curve.size() < kFewestEpochs) continue;
    const Change change = ChangeOf(curve);
    const double size = std::max(std::abs(change.first), kSmallestStatistic);
    const double share = std::abs(change.difference()) / size;
    if (share <= settings_.image_statistics.threshold ||
        std::abs(change.difference()) <= kStatisticErrors * change.error) {
      continue;
    }
    return Firing{.value = share,
                  .good_epochs = EpochsBeforeLastWindow(),
                  .what = absl::StrCat(part, " has changed from ", change.first, " to ",
                                       change.last, " (means of the first and last ", change.window,
                                       " epochs): look at the pictures")};
  }
  return std::nullopt;
}

std::optional<Firing> LearningGuards::HeldOut() const {
  if (history_.epochs.size() < kFewestEpochs) return std::nullopt;
  const double errors = settings_.held_out.threshold;
  const std::vector<std::string> worse = SuspectedHacking(history_, errors, errors);
  if (worse.empty()) return std::nullopt;
  return Firing{
      .value = static_cast<double>(worse.size()),
      .good_epochs = EpochsBeforeLastWindow(),
      .what = absl::StrCat("the reward has risen, but worse: ", absl::StrJoin(worse, "; "))};
}

int64_t LearningGuards::EpochsBeforeLastWindow() const {
  const std::vector<v1::EpochMetrics>& epochs = history_.epochs;
  return epochs[epochs.size() - ChangeOf(RewardCurve(history_)).window].epoch();
}

nlohmann::ordered_json LearningGuards::ToJson() const {
  nlohmann::ordered_json epochs = nlohmann::ordered_json::array();
  for (const v1::EpochMetrics& epoch : history_.epochs) {
    nlohmann::ordered_json row = {{"epoch", epoch.epoch()}, {"reward_mean", epoch.reward_mean()}};
    if (epoch.has_sft_loss()) row["sft_loss"] = epoch.sft_loss();
    for (const std::string& part : value_parts_) {
      const auto found = epoch.parts_mean().find(part);
      if (found != epoch.parts_mean().end()) row[part] = found->second;
    }
    epochs.push_back(std::move(row));
  }
  nlohmann::ordered_json evaluations = nlohmann::ordered_json::array();
  for (const v1::EvalEvent& evaluation : history_.evaluations) {
    nlohmann::ordered_json row = {{"epoch", evaluation.epoch()},
                                  {"reward_mean", evaluation.reward_mean()},
                                  {"reward_stderr", evaluation.reward_stderr()}};
    for (const std::string& part : value_parts_) {
      const auto mean = evaluation.parts_mean().find(part);
      if (mean == evaluation.parts_mean().end()) continue;
      row[part] = {mean->second, evaluation.parts_stderr().at(part)};
    }
    evaluations.push_back(std::move(row));
  }
  return {{"epochs", std::move(epochs)},
          {"evaluations", std::move(evaluations)},
          {"without_spread", without_spread_},
          {"active", active_}};
}

absl::Status LearningGuards::Restore(const nlohmann::json& state) try {
  JobHistory history{.spec = history_.spec, .epochs = {}, .evaluations = {}};
  for (const nlohmann::json& row : state.at("epochs")) {
    v1::EpochMetrics& epoch = history.epochs.emplace_back();
    epoch.set_epoch(row.at("epoch"));
    epoch.set_reward_mean(row.at("reward_mean"));
    if (row.contains("sft_loss")) epoch.set_sft_loss(row.at("sft_loss"));
    for (const std::string& part : value_parts_) {
      if (row.contains(part)) (*epoch.mutable_parts_mean())[part] = row.at(part);
    }
  }
  for (const nlohmann::json& row : state.at("evaluations")) {
    v1::EvalEvent& evaluation = history.evaluations.emplace_back();
    evaluation.set_epoch(row.at("epoch"));
    evaluation.set_reward_mean(row.at("reward_mean"));
    evaluation.set_reward_stderr(row.at("reward_stderr"));
    for (const std::string& part : value_parts_) {
      if (!row.contains(part)) continue;
      (*evaluation.mutable_parts_mean())[part] = row.at(part).at(0);
      (*evaluation.mutable_parts_stderr())[part] = row.at(part).at(1);
    }
  }
  without_spread_ = state.at("without_spread");
  state.at("active").get_to(active_);
  history_ = std::move(history);
  early_.clear();
  return absl::OkStatus();
} catch (const nlohmann::json::exception& error) {
  return absl::InvalidArgumentError(absl::StrCat("state.json: guards: ", error.what()));
}

}  // namespace imageddpo
