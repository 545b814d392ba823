#include "trainer/algo/keyed_advantages.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/algo/moments.h"

namespace imageddpo {

KeyedAdvantages::KeyedAdvantages(const AdvantageSettings& settings)
    : stat_key_(settings.stat_key),
      buffer_size_(settings.buffer_size),
      min_count_(settings.min_count) {
  if (buffer_size_ < 1 || min_count_ < 1) {
    throw std::invalid_argument(absl::StrCat("KeyedAdvantages: buffer_size (", buffer_size_,
                                             ") and min_count (", min_count_,
                                             ") must be at least 1"));
  }
}

std::string KeyedAdvantages::KeyOf(const EpochRewards& epoch, size_t sample) const {
  if (stat_key_ == StatKey::kImage) return epoch.image_ids.at(sample);
  if (stat_key_ == StatKey::kPrompt) return epoch.prompts.at(sample);
  const std::string &id = epoch.image_ids.at(sample), &prompt = epoch.prompts.at(sample);
  // An id that has a line end itself, as file names may, begins with its size: no two pairs have
  // one key.
  if (id.find('\n') != id.npos) return absl::StrCat("\n", id.size(), "\n", id, prompt);
  return absl::StrCat(id, "\n", prompt);
}

std::vector<double> KeyedAdvantages::Advantages(const EpochRewards& epoch) {
  constexpr double kEpsilon = 1e-6;
  const size_t num_samples = epoch.rewards.size();
  if ((stat_key_ != StatKey::kPrompt && epoch.image_ids.size() != num_samples) ||
      (stat_key_ != StatKey::kImage && epoch.prompts.size() != num_samples)) {
    throw std::invalid_argument(absl::StrCat("KeyedAdvantages: ", epoch.image_ids.size(),
                                             " images and ", epoch.prompts.size(), " prompts for ",
                                             num_samples, " rewards"));
  }
  std::vector<std::string> keys;
  keys.reserve(num_samples);
  for (size_t i = 0; i < num_samples; ++i) {
    keys.push_back(KeyOf(epoch, i));
    std::deque<double>& buffer = buffers_[keys.back()];
    buffer.push_back(epoch.rewards[i]);
    if (buffer.size() > static_cast<size_t>(buffer_size_)) buffer.pop_front();
  }
  const Moments of_epoch = MomentsOf(epoch.rewards);
  std::map<std::string, Moments> by_key;
  std::vector<double> advantages;
  advantages.reserve(num_samples);
  for (size_t i = 0; i < num_samples; ++i) {
    const auto [it, is_new] = by_key.try_emplace(keys[i], of_epoch);
    if (is_new) {
      const std::deque<double>& buffer = buffers_.at(keys[i]);
      if (static_cast<int64_t>(buffer.size()) >= min_count_) it->second = MomentsOf(buffer);
    }
    advantages.push_back((epoch.rewards[i] - it->second.mean) / (it->second.std + kEpsilon));
  }
  return advantages;
}

nlohmann::json KeyedAdvantages::State() const {
  nlohmann::json buffers = nlohmann::json::object();
  for (const auto& [key, buffer] : buffers_) buffers[key] = buffer;
  return {{"buffer_size", buffer_size_}, {"min_count", min_count_}, {"buffers", buffers}};
}

absl::Status KeyedAdvantages::Restore(const nlohmann::json& state) {
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
  const auto buffer_size = state["buffer_size"].get<int64_t>();
  std::map<std::string, std::deque<double>> buffers;
  for (const auto& [key, values] : state["buffers"].items()) {
    if (!values.is_array() || values.empty() || static_cast<int64_t>(values.size()) > buffer_size) {
      return malformed(absl::StrCat("buffers[\"", key, "\"] must have 1 to buffer_size rewards"));
    }
    std::deque<double>& buffer = buffers[key];
    for (const nlohmann::json& value : values) {
      if (!value.is_number())
        return malformed(absl::StrCat("buffers[\"", key, "\"] must hold numbers"));
      buffer.push_back(value.get<double>());
    }
  }
  buffer_size_ = buffer_size;
  min_count_ = state["min_count"].get<int64_t>();
  buffers_ = std::move(buffers);
  return absl::OkStatus();
}

}  // namespace imageddpo
