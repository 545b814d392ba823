#include "common/model_config/model_count_json.h"

#include <cstdint>
#include <nlohmann/json.hpp>

namespace imageddpo {
namespace {

struct NamedPass {
  const char* name;
  PassCount ModelCount::*pass;
};
constexpr NamedPass kPasses[] = {{"unet", &ModelCount::unet},
                                 {"encoder", &ModelCount::encoder},
                                 {"decoder", &ModelCount::decoder},
                                 {"text", &ModelCount::text}};

struct NamedValue {
  const char* name;
  double PassCount::*value;
};
constexpr NamedValue kValues[] = {
    {"flops", &PassCount::flops},
    {"lora_flops", &PassCount::lora_flops},
    {"backward_flops", &PassCount::backward_flops},
    {"parameters", &PassCount::parameters},
    {"lora_parameters", &PassCount::lora_parameters},
    {"saved_values", &PassCount::saved_values},
    {"recomputed_values", &PassCount::recomputed_values},
    {"adapter_inputs", &PassCount::adapter_inputs},
    {"recomputed_adapter_inputs", &PassCount::recomputed_adapter_inputs},
    {"live_values", &PassCount::live_values}};

struct NamedSize {
  const char* name;
  PictureSize ModelCount::*size;
};
constexpr NamedSize kSizes[] = {{"image", &ModelCount::image}, {"latent", &ModelCount::latent}};

struct NamedInt {
  const char* name;
  int64_t ModelCount::*value;
};
constexpr NamedInt kInts[] = {{"latent_channels", &ModelCount::latent_channels},
                              {"context_tokens", &ModelCount::context_tokens},
                              {"context_width", &ModelCount::context_width}};

/// A number of an object; 0 where there is none.
template <typename T>
T Number(const nlohmann::json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_number() ? found->template get<T>() : T{0};
}

const nlohmann::json& Part(const nlohmann::json& object, const char* key) {
  static const auto* const kNone = new nlohmann::json();
  const auto found = object.find(key);
  return found != object.end() ? *found : *kNone;
}

}  // namespace

std::string ModelCountToJson(const ModelCount& count) {
  nlohmann::ordered_json json;
  for (const NamedPass& pass : kPasses) {
    for (const NamedValue& value : kValues) {
      json[pass.name][value.name] = (count.*pass.pass).*value.value;
    }
  }
  for (const NamedSize& size : kSizes) {
    const PictureSize& sides = count.*size.size;
    json[size.name] = {{"width", sides.width}, {"height", sides.height}};
  }
  for (const NamedInt& number : kInts) json[number.name] = count.*number.value;
  return json.dump();
}

absl::StatusOr<ModelCount> ModelCountFromJson(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("its counts of the model are no JSON object");
  ModelCount count;
  for (const NamedPass& pass : kPasses) {
    for (const NamedValue& value : kValues) {
      (count.*pass.pass).*value.value = Number<double>(Part(json, pass.name), value.name);
    }
  }
  for (const NamedSize& size : kSizes) {
    const nlohmann::json& sides = Part(json, size.name);
    count.*size.size = {Number<int64_t>(sides, "width"), Number<int64_t>(sides, "height")};
  }
  for (const NamedInt& number : kInts) count.*number.value = Number<int64_t>(json, number.name);
  return count;
}

}  // namespace imageddpo
