#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/choices.h"
#include "common/io/safetensors.h"
#include "common/nn/model_options.h"

namespace imageddpo {

class AdapterConfig;

/// Settings of a new LoRA.
struct LoraConfig {
  int64_t rank = 4;    ///< Inner width of the low-rank product, of every module.
  double alpha = 4.0;  ///< The product is scaled by alpha / rank.
  /// Last components of the layers' paths ("to_out.0" matches "….attn1.to_out.0"). Every one must
  /// match at least one layer.
  std::vector<std::string> target_modules = {"to_q", "to_k", "to_v", "to_out.0"};
};

/// How a LoRA is read.
struct LoraReading {
  at::Device device = at::kCPU;
  /// Modules of the text encoder and of convolutions larger than 1×1.
  UnsupportedModules unsupported = UnsupportedModules::kRefuse;
  /// Gets what was left out, and where a header contradicts its file; may be null.
  std::vector<std::string>* warnings = nullptr;
};

/// Low-rank adapters of a set of linear layers: y += scale · up(down(x)) (Hu et al.,
/// arXiv:2106.09685). The tensors are float32 leaves that require gradients, whatever the model's
/// dtype. Copies of a Lora share their tensors; Clone() makes new ones. Thread-compatible.
///
/// Shape letters: R rank, I in_features, O out_features, P number of parameters.
class Lora {
 public:
  struct Module {
    std::string path;    ///< As in LinearInfo.
    at::Tensor down_RI;  ///< [rank, in_features]
    at::Tensor up_OR;    ///< [out_features, rank]
    double alpha = 1.0;
    double scale = 1.0;           ///< alpha / rank
    bool is_convolution = false;  ///< As in LinearInfo.

    int64_t rank() const { return down_RI.size(0); }
  };

  /// Standard normal float32 tensor of the given shape, a pure function of the path.
  using NormalFn = std::function<at::Tensor(const std::string& path, at::IntArrayRef shape)>;

  /// A fresh LoRA: down ~ N(0, 1/rank²), which PEFT calls init_lora_weights="gaussian"; up = 0.
  /// @return INVALID_ARGUMENT for a rank below 1, an alpha that is not finite, or a target that
  ///         matches no layer.
  static absl::StatusOr<Lora> Create(const std::vector<LinearInfo>& linears,
                                     const LoraConfig& config, const NormalFn& normal,
                                     at::Device device = at::kCPU);

  /// Reads a LoRA file in any spelling that ParseLoraKey() knows, or the file that FindLoraFile()
  /// finds in a folder. A module's alpha is what its `.alpha` tensor says, of any type, else the
  /// header's `lora_adapter_metadata`, else, for a file that PEFT wrote, the adapter_config.json
  /// beside it (see AdapterConfig), else its rank.
  /// @return NOT_FOUND without the file; INVALID_ARGUMENT naming the file and each kind of fault
  ///         once, with one example and how often: keys of other adapters (DoRA, LoHa, …), of
  ///         layers that the UNet does not have, without a partner, of a wrong shape; a
  ///         configuration of more than a low-rank product; and what `reading` refuses.
  static absl::StatusOr<Lora> Load(const std::string& path, const std::vector<LinearInfo>& linears,
                                   const LoraReading& reading = {});
  /// The same from memory. `metadata` is the file header's; `source` names the tensors in errors.
  static absl::StatusOr<Lora> FromTensors(const TensorMap& tensors,
                                          const std::map<std::string, std::string>& metadata,
                                          const std::string& source,
                                          const std::vector<LinearInfo>& linears,
                                          const LoraReading& reading = {});

  /// `unet.<path>.lora.down.weight` and `.lora.up.weight`: float32 CPU copies without gradients,
  /// those of 1×1 convolutions with four dimensions.
  TensorMap ToTensors() const;
  /// The file's header: alpha and rank as diffusers' load_lora_weights and PEFT's LoraConfig read
  /// them. Without it, both take alpha = rank.
  std::map<std::string, std::string> Metadata() const;
  /// Writes ToTensors() and Metadata() atomically.
  absl::Status Save(const std::string& file) const;

  const std::vector<Module>& modules() const { return modules_; }  ///< Sorted by path.
  /// down and up of the first module, of the second, …: the tensors themselves, not copies.
  std::vector<at::Tensor> Parameters() const;
  /// Their names, as in ToTensors().
  std::vector<std::string> ParameterNames() const;
  int64_t num_parameters() const;
  /// SHA-256 over paths, alphas, shapes and values, as 64 hexadecimal digits.
  std::string Hash() const;

  Lora Clone() const;  ///< New tensors on the same device, requiring gradients.
  /// In place, so that whoever shares the tensors sees it. @throws std::invalid_argument where
  /// modules, ranks or alphas differ.
  void CopyFrom(const Lora& other);
  at::Tensor Flatten()
      const;  ///< [P] float32: a copy in the order of Parameters(), on their device.
  /// In place. @param flat_P  on any device. @throws std::invalid_argument  not [P] float32.
  void Unflatten(const at::Tensor& flat_P);

 private:
  static absl::StatusOr<Lora> Read(const TensorMap& tensors,
                                   const std::map<std::string, std::string>& metadata,
                                   const AdapterConfig& config, const std::string& source,
                                   const std::vector<LinearInfo>& linears,
                                   const LoraReading& reading);

  std::vector<Module> modules_;
};

}  // namespace imageddpo
