// Reading and writing LoRA files: which tensors make a module, and where its alpha is kept.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/device/copies.h"
#include "common/io/file.h"
#include "common/lora/lora.h"
#include "common/lora/lora_keys.h"
#include "common/model_config/adapter_config.h"

namespace imageddpo {
namespace {

constexpr char kAdapterMetadataKey[] = "lora_adapter_metadata";
constexpr char kPeftPrefix[] = "base_model.model.";

/// What is wrong with a file, each kind of fault once, with one example and how often.
class Faults {
 public:
  /// @param kind  reads after "<n> keys are" or "<n> modules".
  void Add(const std::string& subject, const std::string& kind, const std::string& example) {
    Fault& fault = faults_[{subject, kind}];
    if (fault.count++ == 0) fault.example = example;
  }

  bool empty() const { return faults_.empty(); }

  std::string Text() const {
    std::vector<std::string> lines;
    for (const auto& [what, fault] : faults_) {
      const auto& [subject, kind] = what;
      lines.push_back(absl::StrCat(fault.count, " ", subject, fault.count == 1 ? " " : "s ", kind,
                                   " (", fault.count == 1 ? "" : "the first is ",
                                   ValidText(fault.example), ")"));
    }
    return absl::StrJoin(lines, "; ");
  }

 private:
  struct Fault {
    size_t count = 0;
    std::string example;
  };
  std::map<std::pair<std::string, std::string>, Fault> faults_;
};

/// The tensors of one module of a file.
struct Parts {
  at::Tensor down, up, mid, alpha;
  size_t count = 0;  ///< Keys.
  std::string first_key;
};

std::string Shape(const at::Tensor& tensor) {
  return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]");
}

/// [A, B] or [A, B, 1, 1] as [A, B]; undefined where it is neither.
at::Tensor AsMatrix(const at::Tensor& tensor) {
  if (tensor.dim() == 2) return tensor;
  if (tensor.dim() == 4 && tensor.size(2) == 1 && tensor.size(3) == 1) return tensor.flatten(1);
  return {};
}

bool IsLargeConvolution(const at::Tensor& tensor) {
  return tensor.defined() && tensor.dim() > 2 && !AsMatrix(tensor).defined();
}

/// Why the tensors are no module of that layer: a kind of fault, and its particulars.
struct Misfit {
  std::string kind, particulars;
};

std::optional<Misfit> FindMisfit(const Parts& parts, const LinearInfo& linear) {
  if (!parts.down.defined()) return Misfit{"without a down matrix"};
  if (!parts.up.defined()) return Misfit{"without an up matrix"};
  if (parts.mid.defined()) return Misfit{"with three matrices"};
  if (!parts.down.is_floating_point() || !parts.up.is_floating_point())
    return Misfit{"with matrices that are not floating point"};
  const at::Tensor down_RI = AsMatrix(parts.down), up_OR = AsMatrix(parts.up);
  const bool fits = down_RI.defined() && up_OR.defined() && down_RI.size(0) >= 1 &&
                    down_RI.size(1) == linear.in_features && up_OR.size(0) == linear.out_features &&
                    up_OR.size(1) == down_RI.size(0);
  if (!fits) {
    return Misfit{"of another size than the layer",
                  absl::StrCat(": down ", Shape(parts.down), " and up ", Shape(parts.up),
                               ", expected [rank, ", linear.in_features, "] and [",
                               linear.out_features, ", rank]")};
  }
  if (parts.alpha.defined() && parts.alpha.numel() != 1)
    return Misfit{"with an alpha that is not one number", ": " + Shape(parts.alpha)};
  return std::nullopt;
}

/// A file's tensors by the layers that they belong to.
class Sorted {
 public:
  Sorted(const TensorMap& tensors, const std::vector<LinearInfo>& linears) : names_(linears) {
    if (tensors.empty()) faults_.Add("file", "without tensors", "nothing is in it");
    std::map<std::string, Parts> modules;
    for (const auto& [key, tensor] : tensors) {
      const LoraKey parsed = ParseLoraKey(key);
      if (!parsed.foreign.empty()) {
        AddForeign(std::string(parsed.foreign), key);
        continue;
      }
      const LinearInfo* const linear = names_.Find(parsed.module);
      Place(key, tensor, parsed.part,
            linear != nullptr ? by_path_[linear->path] : modules[parsed.module]);
    }
    for (const auto& [module, parts] : modules) AddUnknown(parts);
    for (const auto& [path, parts] : by_path_) {
      const std::optional<Misfit> misfit = FindMisfit(parts, *names_.Find(path));
      if (misfit) faults_.Add("module", misfit->kind, path + misfit->particulars);
    }
  }

  const std::map<std::string, Parts>& by_path() const { return by_path_; }
  const LinearInfo& linear(const std::string& path) const { return *names_.Find(path); }
  const Faults& faults() const { return faults_; }
  /// What only belongs to layers that are not trained here.
  const Faults& untrained() const { return untrained_; }

 private:
  void AddForeign(const std::string& kind, const std::string& key) {
    const bool untrained = kind == "the text encoder" || kind == "convolutions larger than 1×1";
    (untrained ? untrained_ : faults_).Add("key", absl::StrCat("of ", kind), key);
  }

  /// A module without a linear layer.
  void AddUnknown(const Parts& parts) {
    const bool is_convolution = IsLargeConvolution(parts.down) || IsLargeConvolution(parts.up) ||
                                IsLargeConvolution(parts.mid);
    for (size_t i = 0; i < parts.count; ++i) {
      if (is_convolution) {
        AddForeign("convolutions larger than 1×1", parts.first_key);
      } else {
        faults_.Add("key", "of layers that this UNet does not have", parts.first_key);
      }
    }
  }

  void Place(const std::string& key, const at::Tensor& tensor, LoraPart part, Parts& parts) {
    at::Tensor& target = part == LoraPart::kDown  ? parts.down
                         : part == LoraPart::kUp  ? parts.up
                         : part == LoraPart::kMid ? parts.mid
                                                  : parts.alpha;
    if (target.defined()) {
      faults_.Add("key", "that another spelling says again", key);
      return;
    }
    target = tensor;
    if (parts.count++ == 0) parts.first_key = key;
  }

  LoraNames names_;
  std::map<std::string, Parts> by_path_;
  Faults faults_, untrained_;
};

/// kohya's header has the alpha and rank of most modules as text; what counts are the tensors.
void CheckKohyaHeader(const std::map<std::string, std::string>& metadata,
                      const std::vector<Lora::Module>& modules, const std::string& source,
                      std::vector<std::string>* warnings) {
  for (const char* key : {"ss_network_alpha", "ss_network_dim"}) {
    const auto found = metadata.find(key);
    double said = 0;
    if (found == metadata.end() || !absl::SimpleAtod(found->second, &said)) continue;
    const bool is_alpha = std::string_view(key) == "ss_network_alpha";
    const auto has_it = [&](const Lora::Module& module) {
      return (is_alpha ? module.alpha : static_cast<double>(module.rank())) == said;
    };
    if (std::any_of(modules.begin(), modules.end(), has_it)) continue;
    warnings->push_back(absl::StrCat(source, ": the header says ", key, " ", said,
                                     ", which no module has; what the tensors say is used, as "
                                     "diffusers does"));
  }
}

absl::StatusOr<AdapterConfig> HeaderConfig(const std::map<std::string, std::string>& metadata,
                                           const std::string& source) {
  const auto found = metadata.find(kAdapterMetadataKey);
  if (found == metadata.end()) return AdapterConfig();
  return AdapterConfig::Parse(found->second,
                              absl::StrCat(source, ": header entry ", kAdapterMetadataKey));
}

}  // namespace

absl::StatusOr<Lora> Lora::FromTensors(const TensorMap& tensors,
                                       const std::map<std::string, std::string>& metadata,
                                       const std::string& source,
                                       const std::vector<LinearInfo>& linears,
                                       const LoraReading& reading) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const AdapterConfig config, HeaderConfig(metadata, source));
  return Read(tensors, metadata, config, source, linears, reading);
}

absl::StatusOr<Lora> Lora::Read(const TensorMap& tensors,
                                const std::map<std::string, std::string>& metadata,
                                const AdapterConfig& config, const std::string& source,
                                const std::vector<LinearInfo>& linears,
                                const LoraReading& reading) {
  Sorted sorted(tensors, linears);
  const bool skips = reading.unsupported == UnsupportedModules::kSkip;
  std::string problem = sorted.faults().Text();
  if (!sorted.untrained().empty() && !skips) {
    absl::StrAppend(&problem, problem.empty() ? "" : "; ", sorted.untrained().Text(),
                    ", which are not trained here: `lora.unsupported_modules: skip` leaves them "
                    "out");
  }
  if (problem.empty() && sorted.by_path().empty()) problem = "nothing in it is for the UNet";
  if (!problem.empty()) return absl::InvalidArgumentError(absl::StrCat(source, ": ", problem));

  const auto leaf = [&](const at::Tensor& tensor) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(reading.device);
    return AsMatrix(tensor)
        .to(options, /*non_blocking=*/false, /*copy=*/true)
        .contiguous()
        .requires_grad_(true);
  };
  Lora lora;
  Faults faults;
  for (const auto& [path, parts] : sorted.by_path()) {
    const int64_t rank = parts.down.size(0);
    if (const int64_t said = config.RankOf(path).value_or(rank); said != rank) {
      faults.Add("module", "of another rank than the adapter's configuration says",
                 absl::StrCat(path, ": ", rank, ", expected ", said));
    }
    double alpha = config.AlphaOf(path, rank).value_or(static_cast<double>(rank));
    if (parts.alpha.defined()) alpha = parts.alpha.item().toDouble();
    if (!std::isfinite(alpha) || alpha == 0) {
      faults.Add("module", "with an alpha that is 0 or not finite",
                 absl::StrCat(path, ": ", alpha));
    }
    lora.modules_.push_back({.path = path,
                             .down_RI = leaf(parts.down),
                             .up_OR = leaf(parts.up),
                             .alpha = alpha,
                             .scale = alpha / static_cast<double>(rank),
                             .is_convolution = sorted.linear(path).is_convolution});
  }
  if (!faults.empty()) return absl::InvalidArgumentError(absl::StrCat(source, ": ", faults.Text()));
  if (reading.warnings != nullptr) {
    if (!sorted.untrained().empty()) {
      reading.warnings->push_back(absl::StrCat(
          source, ": left out ", sorted.untrained().Text(),
          "; diffusers applies them, so its pictures with this file differ from the job's"));
    }
    CheckKohyaHeader(metadata, lora.modules_, source, reading.warnings);
  }
  return lora;
}

absl::StatusOr<Lora> Lora::Load(const std::string& path, const std::vector<LinearInfo>& linears,
                                const LoraReading& reading) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string file, FindLoraFile(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto opened, SafetensorsFile::Open(file));
  TensorMap tensors;
  bool has_peft_keys = false;
  for (const std::string& name : opened->names()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(tensors[name], opened->Get(name));
    has_peft_keys = has_peft_keys || absl::StartsWith(name, kPeftPrefix);
  }
  const std::string source = ValidText(file);
  IMAGEDDPO_ASSIGN_OR_RETURN(AdapterConfig config, HeaderConfig(opened->metadata(), source));
  // Of the files in a folder, adapter_config.json describes those that PEFT wrote.
  const std::filesystem::path config_file =
      std::filesystem::path(file).parent_path() / "adapter_config.json";
  std::error_code error;
  const bool in_header = opened->metadata().contains(kAdapterMetadataKey);
  const bool is_peft = has_peft_keys || absl::EndsWith(file, "/adapter_model.safetensors");
  if (is_peft && !in_header) {
    if (std::filesystem::exists(config_file, error)) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string json, ReadFile(config_file.string()));
      IMAGEDDPO_ASSIGN_OR_RETURN(config,
                                 AdapterConfig::Parse(json, ValidText(config_file.string())));
    } else if (reading.warnings != nullptr) {
      reading.warnings->push_back(absl::StrCat(
          source,
          ": PEFT wrote it, and its adapter_config.json is not beside it: alpha is taken "
          "to be the rank"));
    }
  }
  return Read(tensors, opened->metadata(), config, source, linears, reading);
}

TensorMap Lora::ToTensors() const {
  TensorMap tensors;
  const std::vector<std::string> names = ParameterNames();
  std::vector<at::Tensor> parameters;
  for (const at::Tensor& parameter : Parameters()) {
    parameters.push_back(parameter.is_cpu() ? parameter.detach().clone() : parameter.detach());
  }
  parameters = ReadTogether(parameters);
  for (size_t i = 0; i < names.size(); ++i) {
    at::Tensor tensor = parameters[i];
    if (modules_[i / 2].is_convolution)
      tensor = tensor.view({tensor.size(0), tensor.size(1), 1, 1});
    tensors[names[i]] = tensor;
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
    config = {{"unet.r", rank},
              {"unet.lora_alpha", number(alpha)},
              {"unet.rank_pattern", ranks},
              {"unet.alpha_pattern", alphas},
              {"unet.target_modules", targets}};
  }
  return {{"format", "pt"}, {kAdapterMetadataKey, config.dump(2)}};
}

absl::Status Lora::Save(const std::string& file) const {
  return WriteSafetensors(file, ToTensors(), Metadata());
}

}  // namespace imageddpo
