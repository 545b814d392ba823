#include "rollout/reward/script_contract.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/choices.h"

namespace imageddpo {
namespace {

using nlohmann::json;

constexpr int64_t kFormat = 1;
constexpr int64_t kMaxTokens = 1 << 16;
constexpr size_t kMaxExcerptBytes = 200;

constexpr Choice<ScriptInput> kInputs[] = {{ScriptInput::kGenerated, "generated"},
                                           {ScriptInput::kInput, "input"},
                                           {ScriptInput::kTarget, "target"},
                                           {ScriptInput::kPromptTokens, "prompt_tokens"},
                                           {ScriptInput::kLabel, "label"}};

/// Reads a contract; every message has the place before it.
class Reader {
 public:
  explicit Reader(std::string where) : where_(std::move(where)) {}

  absl::StatusOr<ScriptContract> Read(const json& root) const {
    ScriptContract contract;
    IMAGEDDPO_RETURN_IF_ERROR(
        CheckKeys(root, "", {"format", "inputs", "outputs", "tokenizer", "value"}));
    if (root.value("format", json()) != kFormat) {
      return absl::UnimplementedError(absl::StrCat(where_, ": \"format\" is ",
                                                   Shown(root, "format"),
                                                   "; this version reads format ", kFormat));
    }
    IMAGEDDPO_RETURN_IF_ERROR(ReadInputs(root, &contract));
    IMAGEDDPO_RETURN_IF_ERROR(ReadOutputs(root, &contract));
    if (root.contains("tokenizer")) {
      IMAGEDDPO_ASSIGN_OR_RETURN(contract.tokenizer, ReadTokenizer(root["tokenizer"]));
    }
    if (contract.wants(ScriptInput::kPromptTokens) != contract.tokenizer.has_value()) {
      return Bad(contract.tokenizer ? "it has a \"tokenizer\", but no input \"prompt_tokens\""
                                    : "the input \"prompt_tokens\" needs a \"tokenizer\"");
    }
    return contract;
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(where_, ": ", what));
  }

  static std::string Shown(const json& object, const char* key) {
    return object.contains(key) ? Excerpt(object[key].dump(), kMaxExcerptBytes) : "missing";
  }

  absl::Status CheckKeys(const json& object, const std::string& prefix,
                         const std::set<std::string>& known) const {
    if (!object.is_object()) {
      return Bad(prefix.empty() ? "it is not a JSON object"
                                : absl::StrCat("\"", prefix, "\" is not an object"));
    }
    for (const auto& [key, unused] : object.items()) {
      if (known.contains(key)) continue;
      return Bad(absl::StrCat("unknown key \"", prefix, prefix.empty() ? "" : ".", ValidText(key),
                              "\"; known are ", absl::StrJoin(known, ", ")));
    }
    return absl::OkStatus();
  }

  absl::Status ReadInputs(const json& root, ScriptContract* contract) const {
    const json inputs = root.value("inputs", json());
    if (!inputs.is_array() || inputs.empty()) {
      return Bad("\"inputs\" must list the arguments of forward()");
    }
    contract->inputs.clear();
    for (const json& input : inputs) {
      const auto found =
          input.is_string() ? FindChoice(kInputs, input.get<std::string>()) : std::nullopt;
      if (!found) {
        return Bad(absl::StrCat("\"inputs\" has ", Excerpt(input.dump(), kMaxExcerptBytes),
                                "; it may have ", absl::StrJoin(Words(kInputs), ", ")));
      }
      if (contract->wants(*found)) {
        return Bad(absl::StrCat("\"inputs\" has ", input.dump(), " twice"));
      }
      contract->inputs.push_back(*found);
    }
    return absl::OkStatus();
  }

  absl::Status ReadOutputs(const json& root, ScriptContract* contract) const {
    if (!root.contains("outputs")) {
      return root.contains("value") ? Bad("\"value\" names an output, but there are no \"outputs\"")
                                    : absl::OkStatus();
    }
    const json& outputs = root["outputs"];
    if (!outputs.is_array() || outputs.empty()) {
      return Bad("\"outputs\" must list the names of what forward() returns");
    }
    for (const json& output : outputs) {
      if (!output.is_string() || !IsName(output.get_ref<const std::string&>())) {
        return Bad(absl::StrCat("\"outputs\" has ", Excerpt(output.dump(), kMaxExcerptBytes),
                                "; names are 1 to 64 of a-z, 0-9 and _"));
      }
      if (Contains(contract->outputs, output.get<std::string>())) {
        return Bad(absl::StrCat("\"outputs\" has ", output.dump(), " twice"));
      }
      contract->outputs.push_back(output.get<std::string>());
    }
    const json value = root.value("value", json(contract->outputs.front()));
    const auto found = value.is_string()
                           ? std::find(contract->outputs.begin(), contract->outputs.end(),
                                       value.get_ref<const std::string&>())
                           : contract->outputs.end();
    if (found == contract->outputs.end()) {
      return Bad(absl::StrCat("\"value\" is ", Excerpt(value.dump(), kMaxExcerptBytes),
                              ", which is none of \"outputs\""));
    }
    contract->value = static_cast<size_t>(found - contract->outputs.begin());
    if (Contains(contract->outputs, "value") && *found != "value") {
      return Bad("the output \"value\" must be the one that \"value\" names, or have another name");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ScriptContract::Tokenizer> ReadTokenizer(const json& object) const {
    IMAGEDDPO_RETURN_IF_ERROR(CheckKeys(
        object, "tokenizer", {"type", "length", "bos_token_id", "eos_token_id", "pad_token_id"}));
    if (object.value("type", json()) != "clip") {
      return absl::UnimplementedError(absl::StrCat(where_, ": \"tokenizer.type\" is ",
                                                   Shown(object, "type"),
                                                   "; this version has \"clip\""));
    }
    ScriptContract::Tokenizer tokenizer;
    const std::tuple<const char*, int64_t, int64_t*> numbers[] = {
        {"length", 2, &tokenizer.length},
        {"bos_token_id", 0, &tokenizer.bos_id},
        {"eos_token_id", 0, &tokenizer.eos_id},
        {"pad_token_id", 0, &tokenizer.pad_id}};
    for (const auto& [key, least, number] : numbers) {
      const json value = object.value(key, json());
      const int64_t most = least > 0 ? kMaxTokens : INT32_MAX;
      if (!value.is_number_unsigned() || value.get<uint64_t>() < static_cast<uint64_t>(least) ||
          value.get<uint64_t>() > static_cast<uint64_t>(most)) {
        return Bad(absl::StrCat("\"tokenizer.", key, "\" is ", Shown(object, key),
                                "; it must be a whole number from ", least, " to ", most));
      }
      *number = value.get<int64_t>();
    }
    return tokenizer;
  }

  static bool Contains(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  }

  static bool IsName(const std::string& name) {
    return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return absl::ascii_islower(byte) || absl::ascii_isdigit(byte) || c == '_';
    });
  }

  std::string where_;
};

}  // namespace

bool ScriptContract::wants(ScriptInput input) const {
  return std::find(inputs.begin(), inputs.end(), input) != inputs.end();
}

absl::StatusOr<ScriptContract> ParseScriptContract(std::string_view text,
                                                   const std::string& where) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(text, where));
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": it is not JSON"));
  }
  return Reader(where).Read(root);
}

}  // namespace imageddpo
