// State of a trainer that outlives an epoch: older LoRA versions, and a checkpoint's contents.

#include <absl/strings/str_cat.h>

#include <utility>

#include "common/base/status.h"
#include "common/device/copies.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {
namespace {

constexpr char kVersionPrefix[] = "lora.";  // Of older versions in optimizer.safetensors.
constexpr char kAverage[] = "ema";          // The moving average there.
constexpr char kInitial[] = "initial";      // The LoRA that weight decay pulls to.

// The states of the rules and of the rewards in state.json, where they have one.
constexpr char kStatistics[] = "statistics";
constexpr char kLoss[] = "loss";
constexpr char kRewards[] = "rewards";

/// Takes all values of a LoRA, [P], out of the tensors; undefined where they are not there.
absl::StatusOr<at::Tensor> TakeValues(const char* name, int64_t num_parameters,
                                      std::map<std::string, at::Tensor>* tensors) {
  const auto found = tensors->find(name);
  if (found == tensors->end()) return at::Tensor();
  const at::Tensor values = found->second;
  tensors->erase(found);
  if (values.scalar_type() == at::kFloat && values.numel() == num_parameters) {
    return values.view({-1});
  }
  return absl::InvalidArgumentError(absl::StrCat("optimizer.safetensors: tensor ", name,
                                                 " must have ", num_parameters, " float32 values"));
}

}  // namespace

void Trainer::KeepVersion(int64_t version) {
  if (versions_.max_staleness() == 0) return;
  const auto [kept, is_new] = state_.older_versions.try_emplace(version);
  if (is_new) {
    kept->second = lora_->Flatten();
  } else {  // Restored. A rank that also samples may have bound an older one since, and none after.
    lora_->Unflatten(kept->second);
  }
  // The epoch after this one is sampled with no older version than this.
  state_.older_versions.erase(
      state_.older_versions.begin(),
      state_.older_versions.lower_bound(versions_.OldestVersionAt(version + 1)));
}

Lora Trainer::LoraOf(int64_t version) const {
  Lora lora = lora_->Clone();
  const auto found = state_.older_versions.find(version);
  if (found != state_.older_versions.end()) lora.Unflatten(found->second);
  return lora;
}

std::string Trainer::HashOf(int64_t version) const {
  return version == hashed_.version ? hashed_.hash : LoraOf(version).Hash();
}

Lora Trainer::AverageLora() const {
  Lora lora = lora_->Clone();
  lora.Unflatten(state_.average->values());
  return lora;
}

std::map<std::string, at::Tensor> Trainer::OptimizerTensors() const {
  std::map<std::string, at::Tensor> tensors = optimizer_.State();
  if (state_.average) tensors[kAverage] = state_.average->values();
  for (auto& [name, tensor] : tensors) {
    if (tensor.is_cpu()) tensor = tensor.clone();  // Reading from a device is a copy by itself.
  }
  for (const auto& [version, values_P] : state_.older_versions) {  // Never changed in place.
    tensors[absl::StrCat(kVersionPrefix, version)] = values_P;
  }
  if (initial_) tensors[kInitial] = initial_->Flatten();
  return ReadTogether(tensors);
}

nlohmann::ordered_json Trainer::StateJson() const {
  nlohmann::ordered_json state = {{"format_version", 1},
                                  {"epochs_trained", state_.epochs_trained},
                                  {"updates", state_.updates},
                                  {"samples_seen", state_.samples_seen},
                                  {"ratio_first_step_max_error", state_.ratio_first_step_max_error},
                                  {"num_threads", job_.spec().device().num_threads()},
                                  {"device_batch_size", plan_.device_batch_size},
                                  {"gradient_shards", plan_.gradient_shards},
                                  {"lora_hash", HashOf(state_.epochs_trained)},
                                  {"lora_metadata", lora_->Metadata()}};
  const auto add = [&state](const char* name, const nlohmann::json& of_rule) {
    if (!of_rule.is_null()) state[name] = of_rule;
  };
  add(kStatistics, advantage_rule_->State());
  add(kLoss, loss_rule_->State());
  add(kRewards, combination_.State());
  if (state_.loss_scaler.enabled()) state["loss_scaling"] = state_.loss_scaler.ToJson();
  state_.guards.AddTo(&state);
  if (job_.guards().rollbacks > 0) state["noise_generation"] = job_.guards().rollbacks;
  return state;
}

absl::Status Trainer::Restore(const std::map<std::string, at::Tensor>& optimizer,
                              const nlohmann::json& state) {
  try {
    if (state.at("format_version") != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "state.json: format_version ", state.at("format_version").dump(), " is not supported"));
    }
    std::string hash = lora_->Hash();
    if (state.at("lora_hash") != hash) {
      return absl::InvalidArgumentError(
          "state.json: lora_hash is not that of the LoRA file beside it");
    }
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(
        advantage_rule_->Restore(state.value(kStatistics, nlohmann::json())), "state.json"));
    IMAGEDDPO_RETURN_IF_ERROR(
        Annotate(loss_rule_->Restore(state.value(kLoss, nlohmann::json())), "state.json"));
    IMAGEDDPO_RETURN_IF_ERROR(
        Annotate(combination_.Restore(state.value(kRewards, nlohmann::json())), "state.json"));
    state_.epochs_trained = state.at("epochs_trained");
    hashed_ = {.version = state_.epochs_trained, .hash = std::move(hash)};
    std::map<std::string, at::Tensor> moments = optimizer;
    IMAGEDDPO_RETURN_IF_ERROR(RestoreVersions(&moments));
    IMAGEDDPO_RETURN_IF_ERROR(RestoreAverage(&moments));
    IMAGEDDPO_RETURN_IF_ERROR(RestoreInitial(&moments));
    IMAGEDDPO_RETURN_IF_ERROR(optimizer_.LoadState(moments));
    state_.updates = state.at("updates");
    state_.samples_seen = state.at("samples_seen");
    state_.ratio_first_step_max_error = state.at("ratio_first_step_max_error");
    if (state_.loss_scaler.enabled()) state_.loss_scaler.Restore(state.at("loss_scaling"));
    state_.guards.Restore(state);
    UseLossScale();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("state.json: ", error.what()));
  }
  return absl::OkStatus();
}

absl::Status Trainer::RestoreAverage(std::map<std::string, at::Tensor>* tensors) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor values_P,
                             TakeValues(kAverage, lora_->num_parameters(), tensors));
  if (state_.average) state_.average->Restore(values_P.defined() ? values_P : lora_->Flatten());
  return absl::OkStatus();
}

absl::Status Trainer::RestoreInitial(std::map<std::string, at::Tensor>* tensors) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor values_P,
                             TakeValues(kInitial, lora_->num_parameters(), tensors));
  if (initial_) initial_->Unflatten(values_P.defined() ? values_P : lora_->Flatten());
  return absl::OkStatus();
}

absl::Status Trainer::RestoreVersions(std::map<std::string, at::Tensor>* tensors) {
  if (versions_.max_staleness() == 0) return absl::OkStatus();
  const int64_t newest = state_.epochs_trained;
  for (int64_t v = versions_.OldestVersionAt(newest); v < newest; ++v) {
    const std::string name = absl::StrCat(kVersionPrefix, v);
    const auto found = tensors->find(name);
    if (found == tensors->end() || found->second.scalar_type() != at::kFloat ||
        found->second.numel() != lora_->num_parameters()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "optimizer.safetensors: tensor ", name, " must be there with ", lora_->num_parameters(),
          " float32 values: sample.max_staleness is ", versions_.max_staleness()));
    }
    state_.older_versions[v] = found->second.view({-1});
    tensors->erase(found);
  }
  // A rank that also samples goes through the older ones on the way to this one.
  state_.older_versions[newest] = lora_->Flatten();
  return absl::OkStatus();
}

}  // namespace imageddpo
