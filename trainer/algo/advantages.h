#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Advantages over all rewards of an epoch: (r - mean)/(std + 1e-8), with the population's std
/// (ddof 0). Equal rewards give exactly 0. Not clamped: the loss does that.
std::vector<double> GlobalAdvantages(const std::vector<double>& rewards);

/// Advantages relative to recent rewards of the same key (image, prompt or pair), like DDPO's
/// per-prompt statistics. Each key has a buffer of its newest `buffer_size` rewards. The rewards of
/// an epoch are first appended to the buffers, in sample order. A sample's advantage is then (r -
/// mean)/(std + 1e-6) over its key's buffer, or over the epoch's rewards while the buffer has fewer
/// than `min_count`. Thread-compatible.
class KeyedStatistics {
 public:
  struct Options {
    int64_t buffer_size = 16;
    int64_t min_count = 16;  ///< If above buffer_size, the epoch's statistics are always used.
  };

  /// @throws std::invalid_argument  an option below 1.
  explicit KeyedStatistics(const Options& options);

  /// Takes one epoch's rewards, in sample order, and returns their advantages, not clamped.
  /// @param keys  one stable id per sample.
  /// @throws std::invalid_argument  sizes differ.
  std::vector<double> Update(const std::vector<std::string>& keys,
                             const std::vector<double>& rewards);

  /// Buffers and options; reals round-trip exactly.
  nlohmann::json ToJson() const;
  /// InvalidArgument: not what ToJson() writes.
  static absl::StatusOr<KeyedStatistics> FromJson(const nlohmann::json& state);

  int64_t num_keys() const { return static_cast<int64_t>(buffers_.size()); }

 private:
  Options options_;
  std::map<std::string, std::deque<double>> buffers_;
};

}  // namespace imageddpo
