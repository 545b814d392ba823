#include "common/model_config/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/model_config/json_config.h"

namespace imageddpo {
namespace {

using Json = nlohmann::ordered_json;  // The order of patterns counts.

constexpr absl::string_view kUnetPrefix = "unet.";
constexpr size_t kMaxPatternBytes = 512;
/// PEFT's default of both r and lora_alpha.
constexpr double kPeftDefault = 8;

/// Fields that say where an adapter is, how it was trained and with what, but not what it computes.
constexpr absl::string_view kWithoutEffect[] = {
    "auto_mapping",   "base_model_name_or_path", "corda_config",   "ensure_weight_tying",
    "eva_config",     "exclude_modules",         "fan_in_fan_out", "inference_mode",
    "layers_pattern", "layers_to_transform",     "loftq_config",   "lora_dropout",
    "lora_ga_config", "megatron_core",           "peft_version",   "qalora_group_size",
    "revision",       "runtime_config",          "target_modules", "task_type"};

/// Ways to start a LoRA that change the model's own weights, so that the file alone is not enough.
constexpr absl::string_view kChangeBase[] = {"corda", "loftq", "lora_ga", "olora", "pissa"};

/// null, false, 0, "", [] and {}: what Python takes for false, which a feature that is off has.
bool IsOff(const Json& value) {
  if (value.is_null() || value == false || value == "") return true;
  if (value.is_number()) return value.get<double>() == 0;
  return (value.is_array() || value.is_object()) && value.empty();
}

}  // namespace

/// Takes the fields of one object; problems are noted and reported together.
class AdapterConfig::Reader {
 public:
  explicit Reader(Json fields) : fields_(std::move(fields)) {}

  std::optional<double> Number(const std::string& key, bool whole, double fallback) {
    const Json value = Take(key);
    if (value.is_null()) return fallback;
    if (IsNumber(value, whole)) return value.get<double>();
    Refuse(key, value, whole ? "must be a whole number of at least 1" : "must be a number");
    return std::nullopt;
  }

  Patterns ReadPatterns(const std::string& key, bool whole) {
    Patterns patterns;
    const Json value = Take(key);
    if (!value.is_object() && !IsOff(value)) Refuse(key, value, "must map patterns to numbers");
    if (!value.is_object()) return patterns;
    for (const auto& [text, number] : value.items()) {
      std::optional<Pattern> pattern = Compile(text);
      if (!pattern || !IsNumber(number, whole)) {
        Refuse(absl::StrCat(key, "[\"", ValidText(text), "\"]"), number,
               "a regular expression for paths, with a number, is needed");
        continue;
      }
      pattern->number = number.get<double>();
      patterns.push_back(*std::move(pattern));
    }
    return patterns;
  }

  bool Flag(const std::string& key) {
    const Json value = Take(key);
    if (!value.is_boolean() && !value.is_null()) Refuse(key, value, "must be true or false");
    return value == true;
  }

  /// What would make the weights something else than a low-rank product.
  void RefuseOthers() {
    if (const Json type = Take("peft_type");
        !type.is_null() &&
        (!type.is_string() || absl::AsciiStrToUpper(type.get<std::string>()) != "LORA")) {
      Refuse("peft_type", type, "only LORA is supported");
    }
    if (const Json bias = Take("bias"); !IsOff(bias) && bias != "none")
      Refuse("bias", bias, "biases are not trained here, only \"none\" is supported");
    if (const Json init = Take("init_lora_weights"); init.is_string()) {
      const auto word = init.get<std::string>();
      for (const absl::string_view change : kChangeBase) {
        if (absl::StartsWith(absl::AsciiStrToLower(word), change))
          Refuse("init_lora_weights", init,
                 "changes the model's own weights; convert the adapter to a LoRA with PEFT "
                 "(path_initial_model_for_weight_conversion)");
      }
    }
    for (const absl::string_view key : kWithoutEffect) fields_.erase(std::string(key));
    for (const auto& [key, value] : fields_.items()) {
      if (!IsOff(value)) Refuse(ValidText(key), value, "not supported, or not known");
    }
  }

  absl::Status Finish(const std::string& source) const {
    if (problems_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", absl::StrJoin(problems_, "; ")));
  }

 private:
  Json Take(const std::string& key) {
    const auto found = fields_.find(key);
    if (found == fields_.end()) return nullptr;
    Json value = *found;
    fields_.erase(found);
    return value;
  }

  static bool IsNumber(const Json& value, bool whole) {
    if (!value.is_number() || !std::isfinite(value.get<double>())) return false;
    const auto number = value.get<double>();
    return !whole || (number >= 1 && number == std::floor(number));
  }

  static std::optional<Pattern> Compile(const std::string& text) {
    if (text.size() > kMaxPatternBytes) return std::nullopt;
    Pattern pattern;
    absl::string_view literal = text;
    pattern.is_whole = absl::ConsumePrefix(&literal, "^");
    absl::ConsumeSuffix(&literal, "$");
    pattern.literal = std::string(literal);
    const auto is_plain = [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
    };
    if (std::all_of(literal.begin(), literal.end(), is_plain)) return pattern;
    try {
      // Python's and ECMAScript's expressions agree in what is used for paths. Polynomial: no
      // file's pattern may take exponential time; libstdc++ has that flag.
      pattern.regex.emplace(absl::StrCat("(.*\\.)?(", text, ")"),
                            std::regex::ECMAScript | std::regex_constants::__polynomial);
    } catch (const std::regex_error&) {
      return std::nullopt;
    }
    return pattern;
  }

  void Refuse(const std::string& key, const Json& value, absl::string_view problem) {
    problems_.push_back(absl::StrCat(key, " = ", ShownJson(value), ": ", problem));
  }

  Json fields_;
  std::vector<std::string> problems_;
};

absl::StatusOr<AdapterConfig> AdapterConfig::Parse(const std::string& json,
                                                   const std::string& source) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(json, source));
  const Json root = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object())
    return absl::InvalidArgumentError(absl::StrCat(source, ": not a JSON object"));
  bool prefixed = false;  // No field of PEFT's has a dot in its name.
  for (const auto& [key, value] : root.items()) prefixed = prefixed || absl::StrContains(key, '.');
  Json fields = Json::object();
  for (const auto& [key, value] : root.items()) {
    absl::string_view name = key;
    if (!prefixed || absl::ConsumePrefix(&name, kUnetPrefix)) fields[std::string(name)] = value;
  }
  AdapterConfig config;
  if (fields.empty()) return config;
  const bool says_rank = fields.contains("r");
  Reader reader(std::move(fields));
  const std::optional<double> rank = reader.Number("r", /*whole=*/true, kPeftDefault);
  if (says_rank) config.rank_ = rank;
  config.alpha_ = reader.Number("lora_alpha", /*whole=*/false, kPeftDefault);
  config.rank_patterns_ = reader.ReadPatterns("rank_pattern", /*whole=*/true);
  config.alpha_patterns_ = reader.ReadPatterns("alpha_pattern", /*whole=*/false);
  config.rank_stabilised_ = reader.Flag("use_rslora");
  reader.RefuseOthers();
  if (const absl::Status status = reader.Finish(source); !status.ok()) return status;
  return config;
}

bool AdapterConfig::Pattern::Matches(const std::string& path) const {
  if (regex) return std::regex_match(path, *regex);
  if (path.size() < literal.size()) return false;
  const size_t begin = path.size() - literal.size();
  if (begin > 0 && (is_whole || path[begin - 1] != '.')) return false;
  return std::equal(literal.begin(), literal.end(), path.begin() + static_cast<ptrdiff_t>(begin),
                    [](char wanted, char c) { return wanted == '.' || wanted == c; });
}

std::optional<double> AdapterConfig::Find(const Patterns& patterns, const std::string& path) {
  for (const Pattern& pattern : patterns) {
    if (pattern.Matches(path)) return pattern.number;
  }
  return std::nullopt;
}

std::optional<int64_t> AdapterConfig::RankOf(const std::string& path) const {
  const std::optional<double> found = Find(rank_patterns_, path);
  if (!found && !rank_) return std::nullopt;
  return static_cast<int64_t>(found.value_or(rank_.value_or(0)));
}

std::optional<double> AdapterConfig::AlphaOf(const std::string& path, int64_t rank) const {
  std::optional<double> alpha = Find(alpha_patterns_, path);
  if (!alpha) alpha = alpha_;
  if (alpha && rank_stabilised_) *alpha *= std::sqrt(static_cast<double>(rank));
  return alpha;
}

absl::StatusOr<std::string> FindLoraFile(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  const auto has = [&](absl::string_view name) {
    std::error_code ignored;
    return fs::is_regular_file(fs::path(path) / std::string(name), ignored);
  };
  constexpr absl::string_view kConfig = "adapter_config.json";
  constexpr absl::string_view kPeft = "adapter_model.safetensors";
  constexpr absl::string_view kDiffusers = "pytorch_lora_weights.safetensors";
  if (has(kConfig) && has(kPeft)) return absl::StrCat(path, "/", kPeft);
  if (has(kDiffusers)) return absl::StrCat(path, "/", kDiffusers);
  std::vector<std::string> found, pickles;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
    const std::string extension = absl::AsciiStrToLower(entry.path().extension().string());
    if (extension == ".safetensors") found.push_back(entry.path().filename().string());
    if (extension == ".bin" || extension == ".pt" || extension == ".ckpt")
      pickles.push_back(ValidText(entry.path().filename().string()));
  }
  if (error)
    return absl::ErrnoToStatus(error.value(),
                               absl::StrCat("cannot read the folder '", ValidText(path), "'"));
  if (found.size() == 1) return absl::StrCat(path, "/", found.front());
  const std::string folder = absl::StrCat("the folder '", ValidText(path), "' has ");
  if (!found.empty()) {
    std::sort(found.begin(), found.end());
    for (std::string& name : found) name = ValidText(name);
    return absl::InvalidArgumentError(absl::StrCat(
        folder, found.size(),
        " safetensors files, none with a name that PEFT or diffusers gives a LoRA; name one of ",
        Excerpt(absl::StrJoin(found, ", "), kMaxShownJsonBytes)));
  }
  if (!pickles.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, "no safetensors file, and ", pickles.front(),
                     " is a pickle, which can run code and is not read; save it as safetensors"));
  }
  return absl::NotFoundError(absl::StrCat(folder, "no LoRA in it: no ", kPeft, ", ", kDiffusers,
                                          " or other safetensors file"));
}

}  // namespace imageddpo
