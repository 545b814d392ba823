#include "common/model_config/json_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

/// Fields that say nothing of a model, see JsonConfig.
constexpr std::string_view kBookkeeping[] = {
    "architectures", "dtype", "name_or_path", "torch_dtype", "transformers_version",
    // EMAModel::state_dict(), in each of diffusers' versions.
    "collected_params", "decay", "inv_gamma", "min_decay", "optimization_step", "power",
    "update_after_step", "use_ema_warmup"};

bool IsBookkeeping(std::string_view key) {
  return key.starts_with('_') ||
         std::find(std::begin(kBookkeeping), std::end(kBookkeeping), key) != std::end(kBookkeeping);
}

}  // namespace

absl::StatusOr<JsonConfig> JsonConfig::Open(const std::string& path, const std::string& class_key,
                                            const std::vector<std::string>& class_values) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(bytes, path));
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(text, path));
  nlohmann::json root =
      nlohmann::json::parse(NonFiniteAsNull(text), nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded() || !root.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object"));
  }
  JsonConfig config(path, std::move(root));
  const std::string found = config.String(class_key, class_values.front());
  if (std::find(class_values.begin(), class_values.end(), found) == class_values.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", class_key, " = \"", found,
                     "\", supported: ", absl::StrJoin(class_values, ", ")));
  }
  return config;
}

bool JsonConfig::IsNull(const std::string& key) {
  const auto it = root_.find(key);
  if (it != root_.end() && !it->is_null()) return false;
  read_.insert(key);
  return true;
}

const nlohmann::json* JsonConfig::Find(const std::string& key) {
  read_.insert(key);
  const auto it = root_.find(key);
  return it == root_.end() ? nullptr : &*it;
}

const nlohmann::json* JsonConfig::Value(const std::string& key, const nlohmann::json& fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || !value->is_null()) return value;
  Warn(key, absl::StrCat("read as the default, ", ShownJson(fallback)));
  return nullptr;
}

void JsonConfig::RefuseNull(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    const auto it = root_.find(key);
    if (it != root_.end() && it->is_null())
      Refuse(std::string(key), "not supported; write the value that is meant, or leave it out");
  }
}

std::string JsonConfig::Show(const std::string& key) const {
  const auto it = root_.find(key);
  return absl::StrCat(path_, ": ", key, " = ", it == root_.end() ? "(absent)" : ShownJson(*it));
}

void JsonConfig::Refuse(const std::string& key, const std::string& problem) {
  read_.insert(key);
  problems_.push_back(absl::StrCat(Show(key), ": ", problem));
}

void JsonConfig::Warn(const std::string& key, const std::string& remark) {
  warnings_.push_back(absl::StrCat(Show(key), ": ", remark));
}

int64_t JsonConfig::AsInt(const std::string& key, const nlohmann::json& value, int64_t fallback,
                          int64_t min) {
  constexpr double kLargest = 1e9;  // No size in these files comes near it.
  const double number =
      value.is_number() ? value.get<double>() : kLargest + 1;  // Some exporters write 0.0 for 0.
  if (number == std::floor(number) && number >= static_cast<double>(min) && number <= kLargest) {
    return static_cast<int64_t>(number);
  }
  Refuse(key, absl::StrCat("expected an integer of at least ", min));
  return fallback;
}

int64_t JsonConfig::Int(const std::string& key, int64_t fallback, int64_t min) {
  const nlohmann::json* value = Value(key, fallback);
  return value == nullptr ? fallback : AsInt(key, *value, fallback, min);
}

double JsonConfig::Double(const std::string& key, double fallback) {
  const nlohmann::json* value = Value(key, fallback);
  if (value == nullptr) return fallback;
  if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  Refuse(key, "expected a number");
  return fallback;
}

bool JsonConfig::Bool(const std::string& key, bool fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_null() && !fallback) return false;
  Refuse(key, value->is_null()
                  ? "Python takes it for false, and the default is true: write which is "
                    "meant"
                  : "expected true or false");
  return fallback;
}

std::string JsonConfig::String(const std::string& key, const std::string& fallback) {
  const nlohmann::json* value = Value(key, fallback);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  Refuse(key, "expected a string");
  return fallback;
}

std::vector<int64_t> JsonConfig::IntPerLevel(const std::string& key, int64_t fallback, size_t size,
                                             int64_t min) {
  const nlohmann::json* value = Value(key, fallback);
  if (value != nullptr && value->is_array()) {
    std::vector<int64_t> all = Ints(key, {}, min);
    if (all.size() == size) return all;
    Refuse(key, absl::StrCat("expected one number, or ", size, ": one for each block"));
    return std::vector<int64_t>(size, fallback);
  }
  return std::vector<int64_t>(size, Int(key, fallback, min));
}

std::vector<bool> JsonConfig::BoolPerLevel(const std::string& key, bool fallback, size_t size) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || !value->is_array()) return std::vector<bool>(size, Bool(key, fallback));
  std::vector<bool> all;
  for (const nlohmann::json& item : *value) {
    if (item.is_boolean()) all.push_back(item.get<bool>());
  }
  if (all.size() == size && value->size() == size) return all;
  Refuse(key, absl::StrCat("expected true or false, or ", size, " of them: one for each block"));
  return std::vector<bool>(size, fallback);
}

std::vector<std::string> JsonConfig::Strings(const std::string& key,
                                             const std::vector<std::string>& fallback) {
  const nlohmann::json* value = Value(key, fallback);
  if (value == nullptr) return fallback;
  std::vector<std::string> all;
  bool good = value->is_array() && !value->empty();
  for (const nlohmann::json& item : *value) {
    good = good && item.is_string();
    if (good) all.push_back(item.get<std::string>());
  }
  if (good) return all;
  Refuse(key, "expected a list of strings");
  return fallback;
}

std::vector<int64_t> JsonConfig::Ints(const std::string& key, const std::vector<int64_t>& fallback,
                                      int64_t min) {
  const nlohmann::json* value = Value(key, fallback);
  if (value == nullptr) return fallback;
  if (!value->is_array() || value->empty()) {
    Refuse(key, "expected a list of integers");
    return fallback;
  }
  std::vector<int64_t> all;
  for (const nlohmann::json& item : *value) all.push_back(AsInt(key, item, min, min));
  return all;
}

void JsonConfig::Neutral(const std::string& key, const nlohmann::json& neutral) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || value->is_null() || *value == neutral) return;
  Refuse(key, neutral.is_null() ? "not supported; supported: null"
                                : absl::StrCat("not supported; supported: ", ShownJson(neutral)));
}

void JsonConfig::Ignore(std::initializer_list<std::string_view> keys) {
  read_.insert(keys.begin(), keys.end());
}

absl::Status JsonConfig::Finish(std::vector<std::string>* warnings) const {
  if (warnings != nullptr) warnings->insert(warnings->end(), warnings_.begin(), warnings_.end());
  std::vector<std::string> all = problems_;
  for (const auto& [key, value] : root_.items()) {
    if (read_.contains(key) || IsBookkeeping(key)) continue;
    if (!value.is_null()) {
      all.push_back(absl::StrCat(Show(key), ": unknown field, not supported"));
    } else if (warnings != nullptr) {
      warnings->push_back(absl::StrCat(Show(key), ": unknown field, taken for one that is off"));
    }
  }
  if (all.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(all, "; "));
}

}  // namespace imageddpo
