#include "common/config/compare/branch_rules.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/config/choices.h"
#include "common/config/compare/job_difference.h"
#include "common/config/reward_types.h"

namespace imageddpo {
namespace {

struct Kept {
  const char* setting;  ///< Of a section, all that is in it.
  const char* why;
};

constexpr auto kKept = std::to_array<Kept>({
    {"model.path", "the checkpoint's LoRA belongs to that model"},
    {"lora", "the checkpoint has its LoRA"},
    {"train.optimizer", "the checkpoint has that optimizer's moments"},
    {"train.min_8bit_size", "the checkpoint has its moments in that form"},
    {"sample.max_staleness", "the checkpoint has the older versions of the LoRA for it"},
});
/// Where one of the two jobs has `advantage.mode: per_key`.
constexpr auto kKeptPerKey = std::to_array<Kept>({
    {"advantage.mode", "the checkpoint has the statistics of that mode"},
    {"advantage.stat_key", "the checkpoint's statistics are by that key"},
    {"advantage.buffer_size", "the checkpoint's statistics were made with it"},
    {"advantage.min_count", "the checkpoint's statistics were made with it"},
    {"advantage.combine", "the checkpoint has the statistics of that combination"},
});

template <typename List>
const char* WhyKept(const List& list, const std::string& setting) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Kept& kept) {
    return setting == kept.setting || absl::StartsWith(setting, absl::StrCat(kept.setting, "."));
  });
  return found == list.end() ? nullptr : found->why;
}

std::set<std::string> NormalisedRewards(const v1::JobSpec& job) {
  const std::vector<std::string> names = RewardNames(job);
  std::set<std::string> normalised;
  for (int i = 0; i < job.rewards_size(); ++i) {
    if (job.rewards(i).normalize()) normalised.insert(names[static_cast<size_t>(i)]);
  }
  return normalised;
}

}  // namespace

absl::Status CheckBranch(const v1::JobSpec& parent, const v1::JobSpec& branch, int64_t epoch) {
  std::vector<std::string> faults;
  const std::string mode = WordOf(kAdvantageModes, AdvantageMode::kPerKey);
  const bool per_key = parent.advantage().mode() == mode || branch.advantage().mode() == mode;
  for (const SettingDifference& difference : DifferentSettings(parent, branch)) {
    const char* why = WhyKept(kKept, difference.setting);
    if (why == nullptr && per_key) why = WhyKept(kKeptPerKey, difference.setting);
    if (why == nullptr && difference.setting == "model.precision" &&
        branch.model().precision() == WordOf(kPrecisions, Precision::kFp16)) {
      why = "the checkpoint has no loss scale, which fp16 goes on with";
    }
    if (why == nullptr) continue;
    faults.push_back(
        absl::StrCat("`", difference.setting, "` cannot change with a checkpoint, from ",
                     difference.before.empty() ? "nothing" : difference.before, " to ",
                     difference.after.empty() ? "nothing" : difference.after, ": ", why));
  }
  const std::set<std::string> has_spread = NormalisedRewards(parent);
  const std::vector<std::string> names = RewardNames(branch);
  for (int i = 0; i < branch.rewards_size(); ++i) {
    const std::string& name = names[static_cast<size_t>(i)];
    if (!branch.rewards(i).normalize() || has_spread.contains(name)) continue;
    faults.push_back(absl::StrCat("`rewards.", i,
                                  ".normalize` cannot be true: the checkpoint has no "
                                  "spread of the reward '",
                                  name, "'"));
  }
  if (branch.num_epochs() <= epoch) {
    faults.push_back(absl::StrCat("`num_epochs` is ", branch.num_epochs(),
                                  ", and the checkpoint has ", epoch,
                                  " epochs already; give more, or take an earlier checkpoint"));
  }
  return InvalidSettings(faults);
}

}  // namespace imageddpo
