#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// `advantage.mode: per_key`. Advantages relative to recent rewards of the same key (image, prompt
/// or pair), like DDPO's per-prompt statistics. Each key has a buffer of its newest `buffer_size`
/// rewards. The rewards of an epoch are first appended to the buffers, in sample order. A sample's
/// advantage is then (r - mean)/(std + 1e-6) over its key's buffer, or over the epoch's rewards
/// while the buffer has fewer than `min_count`. The state is the buffers and their settings.
class KeyedAdvantages final : public AdvantageRule {
 public:
  /// @throws std::invalid_argument  buffer_size or min_count below 1.
  explicit KeyedAdvantages(const AdvantageSettings& settings);

  std::vector<double> Advantages(const EpochRewards& epoch) override;

  /// `buffer_size`, `min_count` and `buffers`; reals round-trip exactly.
  nlohmann::json State() const override;
  /// From then on the state's settings hold.
  absl::Status Restore(const nlohmann::json& state) override;

 private:
  std::string KeyOf(const EpochRewards& epoch, size_t sample) const;

  StatKey stat_key_;
  int64_t buffer_size_, min_count_;
  std::map<std::string, std::deque<double>> buffers_;
};

}  // namespace imageddpo
