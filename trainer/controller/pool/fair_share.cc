#include "trainer/controller/pool/fair_share.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace imageddpo {
namespace {

constexpr double kFewestRankSeconds = 1e-3;  // Fewer are forgotten.

}  // namespace

double FairShare::At(const Count& count, double now_s) const {
  if (half_life_s_ <= 0) return 0;
  const double elapsed_s = std::max(0.0, now_s - count.at_s);
  const double kept = std::exp2(-elapsed_s / half_life_s_);
  // Ranks at work add `ranks` a second, and what they have added fades in the same way.
  const double added = count.ranks * half_life_s_ / std::numbers::ln2 * (1 - kept);
  return count.rank_seconds * kept + added;
}

void FairShare::Load(const Usage& usage) {
  Count& count = counts_[usage.owner];
  count.rank_seconds = usage.rank_seconds;
  count.at_s = usage.at_s;
}

void FairShare::RanksChanged(const std::string& owner, int change, double now_s) {
  Count& count = counts_[owner];
  count.rank_seconds = At(count, now_s);
  count.at_s = now_s;
  count.ranks += change;
}

double FairShare::UsageOf(const std::string& owner, double now_s) const {
  const auto count = counts_.find(owner);
  return count == counts_.end() ? 0 : At(count->second, now_s);
}

int FairShare::RanksOf(const std::string& owner) const {
  const auto count = counts_.find(owner);
  return count == counts_.end() ? 0 : count->second.ranks;
}

std::vector<FairShare::Usage> FairShare::Settle(double now_s) {
  std::vector<Usage> settled;
  for (auto entry = counts_.begin(); entry != counts_.end();) {
    Count& count = entry->second;
    count.rank_seconds = At(count, now_s);
    count.at_s = now_s;
    if (count.ranks == 0 && count.rank_seconds < kFewestRankSeconds) {
      entry = counts_.erase(entry);
      continue;
    }
    settled.push_back({entry->first, count.rank_seconds, now_s});
    ++entry;
  }
  return settled;
}

}  // namespace imageddpo
