// Reading and writing LoRA files: the spellings of keys, and where alpha is kept.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/lora/lora.h"

namespace imageddpo {
namespace {

constexpr absl::string_view kAdapterMetadataKey = "lora_adapter_metadata";
constexpr absl::string_view kUnetPrefix = "unet.";
constexpr absl::string_view kKohyaPrefix = "lora_unet_";
constexpr size_t kMaxNamed = 5;

enum class Part { kDown, kUp, kAlpha };

/// What one key of a file says: a part of the layer at `path`.
struct ParsedKey {
  std::string path;
  Part part = Part::kDown;
};

std::optional<Part> ParsePart(absl::string_view ending) {
  if (ending == "lora.down.weight" || ending == "lora_down.weight" || ending == "lora_A.weight")
    return Part::kDown;
  if (ending == "lora.up.weight" || ending == "lora_up.weight" || ending == "lora_B.weight")
    return Part::kUp;
  if (ending == "alpha") return Part::kAlpha;
  return std::nullopt;
}

/// "attn1.to_q_lora.down.weight" to "attn1.to_q.lora.down.weight", as diffusers wrote before 0.21.
std::string ModernSpelling(std::string key) {
  key = absl::StrReplaceAll(key, {{".processor.", "."}});
  return absl::StrReplaceAll(key, {{".to_q_lora.", ".to_q.lora."},
                                   {".to_k_lora.", ".to_k.lora."},
                                   {".to_v_lora.", ".to_v.lora."},
                                   {".to_out_lora.", ".to_out.0.lora."}});
}

/// "….lora_A.default.weight" to "….lora_A.weight".
std::string WithoutAdapterName(const std::string& key) {
  for (const std::string matrix : {".lora_A.", ".lora_B."}) {
    const size_t at = key.rfind(matrix);
    if (at == std::string::npos) continue;
    const size_t name = at + matrix.size();
    const size_t dot = key.find('.', name);
    if (dot != std::string::npos && key.substr(dot) == ".weight")
      return key.substr(0, name) + key.substr(dot + 1);
  }
  return key;
}

/// Splits a key at the part's name. Returns the reason where the key is of no known kind.
class KeyParser {
 public:
  explicit KeyParser(const std::vector<LinearInfo>& linears) {
    for (const LinearInfo& linear : linears) {
      linears_[linear.path] = linear;
      path_by_flat_name_[absl::StrReplaceAll(linear.path, {{".", "_"}})] = linear.path;
    }
  }

  const LinearInfo& linear(const std::string& path) const { return linears_.at(path); }

  std::optional<ParsedKey> Parse(const std::string& raw_key, std::string& reason) const {
    absl::string_view rest = raw_key;
    if (absl::StartsWith(rest, "text_encoder") || absl::StartsWith(rest, "lora_te")) {
      reason = "belongs to the text encoder; only LoRAs of the UNet are supported";
      return std::nullopt;
    }
    if (absl::ConsumePrefix(&rest, kKohyaPrefix)) {
      const size_t dot = rest.find('.');
      const std::optional<Part> part =
          dot == rest.npos ? std::nullopt : ParsePart(rest.substr(dot + 1));
      const auto it = path_by_flat_name_.find(rest.substr(0, dot));
      return Found(part, it == path_by_flat_name_.end() ? "" : it->second, reason);
    }
    while (absl::ConsumePrefix(&rest, kUnetPrefix) ||
           absl::ConsumePrefix(&rest, "base_model.model.")) {
    }
    const std::string key = WithoutAdapterName(ModernSpelling(std::string(rest)));
    for (const absl::string_view ending :
         {".lora.down.weight", ".lora.up.weight", ".lora_down.weight", ".lora_up.weight",
          ".lora_A.weight", ".lora_B.weight", ".alpha"}) {
      if (!absl::EndsWith(key, ending)) continue;
      return Found(ParsePart(ending.substr(1)), key.substr(0, key.size() - ending.size()), reason);
    }
    return Found(std::nullopt, "", reason);
  }

 private:
  std::optional<ParsedKey> Found(std::optional<Part> part, const std::string& path,
                                 std::string& reason) const {
    if (!part) {
      reason =
          "is not a LoRA's down, up or alpha (DoRA, LoHa, LoKr, biases and the like are not "
          "supported)";
      return std::nullopt;
    }
    if (!linears_.contains(path)) {
      reason = "has no linear layer of that name in this UNet (convolutions are not supported)";
      return std::nullopt;
    }
    return ParsedKey{path, *part};
  }

  std::map<std::string, LinearInfo> linears_;
  std::map<std::string, std::string, std::less<>> path_by_flat_name_;
};

/// Alphas as PEFT's adapter configuration in the file's header states them.
struct HeaderAlphas {
  std::optional<double> common;
  std::map<std::string, double> by_pattern;  // A layer's path, or the last components of it.

  std::optional<double> For(const std::string& path) const {
    for (const auto& [pattern, alpha] : by_pattern) {
      if (path == pattern || absl::EndsWith(path, absl::StrCat(".", pattern))) return alpha;
    }
    return common;
  }
};

absl::StatusOr<HeaderAlphas> ParseHeader(const std::map<std::string, std::string>& metadata,
                                         const std::string& source) {
  HeaderAlphas alphas;
  const auto it = metadata.find(std::string(kAdapterMetadataKey));
  if (it == metadata.end()) return alphas;
  const nlohmann::json root =
      nlohmann::json::parse(it->second, nullptr, /*allow_exceptions=*/false);
  const auto refuse = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": header entry ", kAdapterMetadataKey, ": ", problem));
  };
  if (!root.is_object()) return refuse("not a JSON object");
  const auto field = [&](const char* name) {
    return root.value(absl::StrCat(kUnetPrefix, name), nlohmann::json(nullptr));
  };
  for (const char* name : {"use_dora", "use_rslora", "lora_bias"}) {
    const nlohmann::json value = field(name);
    if (!value.is_null() && value != false) return refuse(absl::StrCat(name, " is not supported"));
  }
  if (const nlohmann::json value = field("lora_alpha"); value.is_number())
    alphas.common = value.get<double>();
  const nlohmann::json patterns = field("alpha_pattern");
  if (!patterns.is_object()) return alphas;
  for (const auto& [raw_pattern, value] : patterns.items()) {
    absl::string_view pattern = raw_pattern;  // A regular expression; real files hold paths.
    absl::ConsumePrefix(&pattern, "^");
    absl::ConsumeSuffix(&pattern, "$");
    if (!value.is_number() || pattern.find_first_of("*+?()[]{}|\\^$") != pattern.npos) {
      return refuse(
          absl::StrCat("alpha_pattern ", raw_pattern, ": supported: layers' paths with numbers"));
    }
    alphas.by_pattern[std::string(pattern)] = value.get<double>();
  }
  return alphas;
}

struct Parts {
  at::Tensor down_RI, up_OR;
  std::optional<double> alpha;
};

std::string Shape(const at::Tensor& tensor) {
  return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]");
}

/// Puts one tensor of a file where it belongs; a problem in words, or nothing.
std::string Place(const at::Tensor& tensor, Part part, Parts& parts) {
  if (!tensor.is_floating_point()) return "is not floating point";
  if (part == Part::kAlpha) {
    if (tensor.numel() != 1) return absl::StrCat("is ", Shape(tensor), ", expected one number");
    if (parts.alpha) return "says again what another spelling of the same key says";
    parts.alpha = tensor.item().toDouble();
    return "";
  }
  at::Tensor& target = part == Part::kDown ? parts.down_RI : parts.up_OR;
  if (target.defined()) return "says again what another spelling of the same key says";
  target = tensor;
  return "";
}

std::string CheckShapes(const Parts& parts, const LinearInfo& linear) {
  if (!parts.down_RI.defined()) return "has no down matrix";
  if (!parts.up_OR.defined()) return "has no up matrix";
  const bool good = parts.down_RI.dim() == 2 && parts.up_OR.dim() == 2 &&
                    parts.down_RI.size(0) >= 1 && parts.down_RI.size(1) == linear.in_features &&
                    parts.up_OR.size(0) == linear.out_features &&
                    parts.up_OR.size(1) == parts.down_RI.size(0);
  if (good) return "";
  return absl::StrCat("has down ", Shape(parts.down_RI), " and up ", Shape(parts.up_OR),
                      ", expected [rank, ", linear.in_features, "] and [", linear.out_features,
                      ", rank]");
}

absl::Status Refuse(const std::string& source, const std::vector<std::string>& problems) {
  const size_t shown = std::min(problems.size(), kMaxNamed);
  std::string text =
      absl::StrJoin(problems.begin(), problems.begin() + static_cast<ptrdiff_t>(shown), "; ");
  if (problems.size() > shown)
    absl::StrAppend(&text, "; … (", problems.size(), " problems in all)");
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", text));
}

}  // namespace

absl::StatusOr<Lora> Lora::FromTensors(const TensorMap& tensors,
                                       const std::map<std::string, std::string>& metadata,
                                       const std::string& source,
                                       const std::vector<LinearInfo>& linears,
                                       std::optional<double> default_alpha, at::Device device) {
  const KeyParser parser(linears);
  std::vector<std::string> problems;
  std::map<std::string, Parts> parts_by_path;
  for (const auto& [key, tensor] : tensors) {
    std::string reason;
    const std::optional<ParsedKey> parsed = parser.Parse(key, reason);
    if (parsed) reason = Place(tensor, parsed->part, parts_by_path[parsed->path]);
    if (!reason.empty()) problems.push_back(absl::StrCat(key, " ", reason));
  }
  if (tensors.empty()) problems.push_back("no tensors");
  for (const auto& [path, parts] : parts_by_path) {
    const std::string problem = CheckShapes(parts, parser.linear(path));
    if (!problem.empty()) problems.push_back(absl::StrCat(path, " ", problem));
  }
  if (!problems.empty()) return Refuse(source, problems);

  IMAGEDDPO_ASSIGN_OR_RETURN(const HeaderAlphas header, ParseHeader(metadata, source));
  const auto leaf = [&](const at::Tensor& tensor) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    return tensor.to(options, /*non_blocking=*/false, /*copy=*/true)
        .contiguous()
        .requires_grad_(true);
  };
  Lora lora;
  for (const auto& [path, parts] : parts_by_path) {
    const double rank = static_cast<double>(parts.down_RI.size(0));
    double alpha = default_alpha.value_or(rank);
    if (const std::optional<double> stated = header.For(path)) alpha = *stated;
    if (parts.alpha) alpha = *parts.alpha;
    if (!std::isfinite(alpha))
      return Refuse(source, {absl::StrCat(path, " has an alpha that is not finite")});
    lora.modules_.push_back({.path = path,
                             .down_RI = leaf(parts.down_RI),
                             .up_OR = leaf(parts.up_OR),
                             .alpha = alpha,
                             .scale = alpha / rank});
  }
  return lora;
}

absl::StatusOr<Lora> Lora::Load(const std::string& file, const std::vector<LinearInfo>& linears,
                                std::optional<double> default_alpha, at::Device device) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto opened, SafetensorsFile::Open(file));
  TensorMap tensors;
  for (const std::string& name : opened->names()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(tensors[name], opened->Get(name));
  }
  return FromTensors(tensors, opened->metadata(), file, linears, default_alpha, device);
}

TensorMap Lora::ToTensors() const {
  TensorMap tensors;
  const std::vector<std::string> names = ParameterNames();
  const std::vector<at::Tensor> parameters = Parameters();
  for (size_t i = 0; i < names.size(); ++i) {
    tensors[names[i]] = parameters[i].detach().to(at::TensorOptions().device(at::kCPU),
                                                  /*non_blocking=*/false, /*copy=*/true);
  }
  return tensors;
}

std::map<std::string, std::string> Lora::Metadata() const {
  // PEFT's LoraConfig: values that most modules share, and patterns for the others.
  nlohmann::json config = nlohmann::json::object();
  std::map<int64_t, size_t> rank_counts;
  std::map<double, size_t> alpha_counts;
  for (const Module& module : modules_) {
    ++rank_counts[module.rank()];
    ++alpha_counts[module.alpha];
  }
  const auto by_count = [](const auto& a, const auto& b) { return a.second < b.second; };
  if (!modules_.empty()) {
    const int64_t rank = std::max_element(rank_counts.begin(), rank_counts.end(), by_count)->first;
    const double alpha =
        std::max_element(alpha_counts.begin(), alpha_counts.end(), by_count)->first;
    nlohmann::json ranks = nlohmann::json::object(), alphas = nlohmann::json::object(),
                   targets = nlohmann::json::array();
    // A whole alpha is written as an integer, which is PEFT's type.
    const auto number = [](double value) {
      return value == std::floor(value) && std::abs(value) < 1e15
                 ? nlohmann::json(static_cast<int64_t>(value))
                 : nlohmann::json(value);
    };
    for (const Module& module : modules_) {
      targets.push_back(module.path);
      if (module.rank() != rank) ranks[absl::StrCat("^", module.path)] = module.rank();
      if (module.alpha != alpha) alphas[absl::StrCat("^", module.path)] = number(module.alpha);
    }
    config = {{absl::StrCat(kUnetPrefix, "r"), rank},
              {absl::StrCat(kUnetPrefix, "lora_alpha"), number(alpha)},
              {absl::StrCat(kUnetPrefix, "rank_pattern"), ranks},
              {absl::StrCat(kUnetPrefix, "alpha_pattern"), alphas},
              {absl::StrCat(kUnetPrefix, "target_modules"), targets}};
  }
  return {{"format", "pt"}, {std::string(kAdapterMetadataKey), config.dump(2)}};
}

absl::Status Lora::Save(const std::string& file) const {
  return WriteSafetensors(file, ToTensors(), Metadata());
}

}  // namespace imageddpo
