#include "trainer/algo/advantages.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr double kGlobalEpsilon = 1e-8;
constexpr double kKeyedEpsilon = 1e-6;

struct Moments {
  double mean = 0.0;
  double std = 0.0;  ///< Of the population.
};

/// Computed in two passes, in double. Rewards are float32 values, so equal ones have a standard
/// deviation of exactly 0.
template <typename Container>
Moments MomentsOf(const Container& values) {
  Moments moments;
  if (values.empty()) return moments;
  const auto n = static_cast<double>(values.size());
  for (double value : values) moments.mean += value;
  moments.mean /= n;
  double squares = 0.0;
  for (double value : values) squares += (value - moments.mean) * (value - moments.mean);
  moments.std = std::sqrt(squares / n);
  return moments;
}

}  // namespace

std::vector<double> GlobalAdvantages(const std::vector<double>& rewards) {
  const Moments moments = MomentsOf(rewards);
  std::vector<double> advantages;
  advantages.reserve(rewards.size());
  for (double reward : rewards)
    advantages.push_back((reward - moments.mean) / (moments.std + kGlobalEpsilon));
  return advantages;
}

KeyedStatistics::KeyedStatistics(const Options& options) : options_(options) {
  if (options.buffer_size < 1 || options.min_count < 1) {
    throw std::invalid_argument(absl::StrCat("KeyedStatistics: buffer_size (", options.buffer_size,
                                             ") and min_count (", options.min_count,
                                             ") must be at least 1"));
  }
}

std::vector<double> KeyedStatistics::Update(const std::vector<std::string>& keys,
                                            const std::vector<double>& rewards) {
  if (keys.size() != rewards.size()) {
    throw std::invalid_argument(absl::StrCat("KeyedStatistics::Update: ", keys.size(), " keys for ",
                                             rewards.size(), " rewards"));
  }
  const auto buffer_size = static_cast<size_t>(options_.buffer_size);
  for (size_t i = 0; i < keys.size(); ++i) {
    std::deque<double>& buffer = buffers_[keys[i]];
    buffer.push_back(rewards[i]);
    if (buffer.size() > buffer_size) buffer.pop_front();
  }
  const Moments epoch = MomentsOf(rewards);
  std::map<std::string, Moments> by_key;
  std::vector<double> advantages;
  advantages.reserve(rewards.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto [it, is_new] = by_key.try_emplace(keys[i], epoch);
    if (is_new) {
      const std::deque<double>& buffer = buffers_.at(keys[i]);
      if (static_cast<int64_t>(buffer.size()) >= options_.min_count) it->second = MomentsOf(buffer);
    }
    advantages.push_back((rewards[i] - it->second.mean) / (it->second.std + kKeyedEpsilon));
  }
  return advantages;
}

nlohmann::json KeyedStatistics::ToJson() const {
  nlohmann::json buffers = nlohmann::json::object();
  for (const auto& [key, buffer] : buffers_) buffers[key] = buffer;
  return {{"buffer_size", options_.buffer_size},
          {"min_count", options_.min_count},
          {"buffers", buffers}};
}

absl::StatusOr<KeyedStatistics> KeyedStatistics::FromJson(const nlohmann::json& state) {
  const auto malformed = [](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("per-key statistics: ", what));
  };
  if (!state.is_object()) return malformed("not an object");
  for (const char* key : {"buffer_size", "min_count"}) {
    if (!state.contains(key) || !state[key].is_number_integer() || state[key].get<int64_t>() < 1) {
      return malformed(absl::StrCat(key, " must be an integer of at least 1"));
    }
  }
  if (!state.contains("buffers") || !state["buffers"].is_object())
    return malformed("buffers must be an object");
  KeyedStatistics statistics(
      {state["buffer_size"].get<int64_t>(), state["min_count"].get<int64_t>()});
  for (const auto& [key, values] : state["buffers"].items()) {
    if (!values.is_array() || values.empty() ||
        static_cast<int64_t>(values.size()) > statistics.options_.buffer_size) {
      return malformed(absl::StrCat("buffers[\"", key, "\"] must have 1 to buffer_size rewards"));
    }
    std::deque<double>& buffer = statistics.buffers_[key];
    for (const nlohmann::json& value : values) {
      if (!value.is_number())
        return malformed(absl::StrCat("buffers[\"", key, "\"] must hold numbers"));
      buffer.push_back(value.get<double>());
    }
  }
  return statistics;
}

}  // namespace imageddpo
