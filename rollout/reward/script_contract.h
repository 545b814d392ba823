#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Names of files inside a TorchScript archive: the one that says what the module takes and
/// returns, and those that its tokenizer is made from.
inline constexpr char kContractFile[] = "imageddpo.json";
inline constexpr char kVocabularyFile[] = "tokenizer/vocab.json";
inline constexpr char kMergesFile[] = "tokenizer/merges.txt";

/// An argument of a scoring module's forward(), for N images.
enum class ScriptInput {
  kGenerated,     ///< [N,3,H,W] float32 in [0,1]
  kInput,         ///< the same of the input images
  kTarget,        ///< the same of the targets
  kPromptTokens,  ///< [N,length] int64: the prompts' tokens
  kLabel,         ///< [N] int64
};

/// What `imageddpo.json` says, docs/formats.md.
struct ScriptContract {
  struct Tokenizer {
    int64_t length = 0;  ///< Tokens of a text, with beginning, end and padding.
    int64_t bos_id = 0, eos_id = 0, pad_id = 0;
  };

  std::vector<ScriptInput> inputs = {ScriptInput::kGenerated};
  std::vector<std::string> outputs;    ///< Empty: one tensor without a name.
  size_t value = 0;                    ///< The output that is the reward.
  std::optional<Tokenizer> tokenizer;  ///< Set where the prompts' tokens are an input.

  bool wants(ScriptInput input) const;
};

/// @param text   of the file; @param where  for messages: "'FILE': imageddpo.json".
/// @return INVALID_ARGUMENT naming the key; UNIMPLEMENTED for another format or tokenizer.
absl::StatusOr<ScriptContract> ParseScriptContract(std::string_view text, const std::string& where);

}  // namespace imageddpo
