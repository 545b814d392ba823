#include "common/text/tokenizer_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

using nlohmann::json;

constexpr int64_t kMaxLength = 1 << 16;

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

absl::StatusOr<json> ParseJson(std::string_view bytes, const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(bytes, path));
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(text, path));
  json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object"));
  return root;
}

absl::StatusOr<json> ReadJson(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return ParseJson(bytes, path);
}

absl::Status ReadVocabulary(const std::string& path, const json& entries, TokenizerFiles& out) {
  if (!entries.is_object() || entries.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the vocabulary must map tokens to ids"));
  }
  out.vocabulary.reserve(entries.size());
  for (const auto& [token, id] : entries.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the id of token \"", token, "\" is no valid number"));
    }
    out.vocabulary[token] = id.get<int64_t>();
  }
  return absl::OkStatus();
}

absl::Status ReadVocabAndMergesOf(const std::string& dir, TokenizerFiles& out) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string vocab, ReadFile(dir + "/vocab.json"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string merges, ReadFile(dir + "/merges.txt"));
  return ReadVocabAndMerges(dir, vocab, merges, out);
}

/// The "model" of a tokenizer.json; its text clean-up is not read, for CLIP's is fixed.
absl::Status ReadModel(const std::string& path, const json& root, TokenizerFiles& out) {
  const json model = root.value("model", json::object());
  if (!model.is_object() || model.value("type", json("BPE")) != "BPE" ||
      model.value("end_of_word_suffix", json()) != "</w>") {
    return absl::UnimplementedError(absl::StrCat(
        path, ": model must be BPE with end_of_word_suffix \"</w>\", as CLIP's tokenizer is"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(ReadVocabulary(path, model.value("vocab", json()), out));
  const json merges = model.value("merges", json());
  if (!merges.is_array())
    return absl::InvalidArgumentError(absl::StrCat(path, ": model.merges must be a list"));
  for (size_t i = 0; i < merges.size(); ++i) {
    std::vector<std::string> parts;
    if (merges[i].is_string()) {
      parts = absl::StrSplit(merges[i].get<std::string>(), ' ');
    } else if (merges[i].is_array()) {
      for (const json& part : merges[i]) {
        if (part.is_string()) parts.push_back(part.get<std::string>());
      }
    }
    if (parts.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": model.merges[", i, "] must be two tokens"));
    }
    out.merges.emplace_back(std::move(parts[0]), std::move(parts[1]));
  }
  return absl::OkStatus();
}

/// A special token as the files write it: its text, or an object with flags.
struct Declared {
  std::string content;
  bool normalized = false;
  std::optional<int64_t> id;
};

absl::StatusOr<Declared> ParseDeclared(const std::string& where, const json& value, bool special) {
  if (value.is_string()) return Declared{value.get<std::string>(), !special, std::nullopt};
  if (!value.is_object() || !value.contains("content") || !value["content"].is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected a token or an object with \"content\""));
  }
  const auto flag = [&value](const char* key, bool fallback) {
    return value.contains(key) && value[key].is_boolean() ? value[key].get<bool>() : fallback;
  };
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (flag(key, false)) {
      return absl::UnimplementedError(
          absl::StrCat(where, ": ", key, " = true is not supported; set it to false"));
    }
  }
  Declared token{value["content"].get<std::string>(), false, std::nullopt};
  token.normalized = flag("normalized", !(special || flag("special", false)));
  if (value.contains("id") && value["id"].is_number_integer())
    token.id = value["id"].get<int64_t>();
  return token;
}

/// Gathers special tokens in the order in which transformers adds them: a later declaration of the
/// same text wins.
class SpecialTokenTable {
 public:
  SpecialTokenTable(std::string dir, json config)
      : dir_(std::move(dir)), config_(std::move(config)) {}

  absl::Status Read(const json& tokenizer_json, TokenizerFiles& out) {
    IMAGEDDPO_RETURN_IF_ERROR(
        config_.contains("added_tokens_decoder") ? ReadDecoder() : ReadOlderFiles(tokenizer_json));
    for (const Declared& token : order_) {
      IMAGEDDPO_RETURN_IF_ERROR(Add(token, out));
    }
    const std::pair<const char*, int64_t*> named[] = {{"bos_token", &out.bos_id},
                                                      {"eos_token", &out.eos_id},
                                                      {"unk_token", &out.unk_id},
                                                      {"pad_token", &out.pad_id}};
    for (const auto& [key, id] : named) {
      const json fallback =
          key == std::string_view("bos_token") ? "<|startoftext|>" : "<|endoftext|>";
      const json named_token = config_.value(key, json());
      IMAGEDDPO_ASSIGN_OR_RETURN(
          Declared token, ParseDeclared(Where(key), named_token.is_null() ? fallback : named_token,
                                        /*special=*/true));
      const auto listed = declared_.find(token.content);
      IMAGEDDPO_RETURN_IF_ERROR(Add(listed == declared_.end() ? token : listed->second, out));
      *id = out.special_tokens[positions_.at(token.content)].id;
    }
    return ReadExtra(out);
  }

 private:
  std::string Where(const std::string& key) const {
    return absl::StrCat(dir_, "/tokenizer_config.json: ", key);
  }

  void Declare(const Declared& token) {
    declared_[token.content] = token;
    order_.push_back(token);
  }

  absl::Status ReadDecoder() {
    for (const auto& [id, value] : config_["added_tokens_decoder"].items()) {
      const std::string where = Where("added_tokens_decoder." + id);
      IMAGEDDPO_ASSIGN_OR_RETURN(Declared token, ParseDeclared(where, value, /*special=*/false));
      int64_t number = 0;
      if (!absl::SimpleAtoi(id, &number)) return absl::InvalidArgumentError(where + ": not an id");
      token.id = number;
      Declare(token);
    }
    return absl::OkStatus();
  }

  /// special_tokens_map.json overrides tokenizer_config.json, tokenizer.json's flags override both.
  absl::Status ReadOlderFiles(const json& tokenizer_json) {
    if (const std::string path = dir_ + "/special_tokens_map.json"; Exists(path)) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const json map, ReadJson(path));
      for (const auto& [key, value] : map.items()) config_[key] = value;
    }
    if (const std::string path = dir_ + "/added_tokens.json"; Exists(path)) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const json added, ReadJson(path));
      for (const auto& [content, id] : added.items()) {
        if (!id.is_number_integer())
          return absl::InvalidArgumentError(absl::StrCat(path, ": ", content, ": not an id"));
        Declare({content, !IsNamed(content), id.get<int64_t>()});
      }
    }
    for (const json& value : tokenizer_json.value("added_tokens", json::array())) {
      IMAGEDDPO_ASSIGN_OR_RETURN(
          Declared token,
          ParseDeclared(dir_ + "/tokenizer.json: added_tokens", value, /*special=*/false));
      Declare(token);
    }
    return absl::OkStatus();
  }

  bool IsNamed(const std::string& content) const {
    for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
      const json value = config_.value(key, json());
      if (value == content || (value.is_object() && value.value("content", json()) == content))
        return true;
    }
    return false;
  }

  absl::Status ReadExtra(TokenizerFiles& out) {
    for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
      const json tokens = config_.value(key, json());
      if (!tokens.is_array() && !tokens.is_object()) continue;
      for (const json& value : tokens) {
        IMAGEDDPO_ASSIGN_OR_RETURN(Declared token,
                                   ParseDeclared(Where(key), value, /*special=*/true));
        IMAGEDDPO_RETURN_IF_ERROR(Add(token, out));
      }
    }
    return absl::OkStatus();
  }

  /// Tokens beyond the vocabulary (learned concepts) are numbered after it.
  absl::Status Add(const Declared& token, TokenizerFiles& out) {
    if (token.content.empty())
      return absl::InvalidArgumentError(dir_ + ": a special token is empty");
    const auto [position, is_new] = positions_.emplace(token.content, out.special_tokens.size());
    if (!is_new) {
      out.special_tokens[position->second].normalized = token.normalized;
      return absl::OkStatus();
    }
    const auto it = out.vocabulary.find(token.content);
    if (it == out.vocabulary.end() && !token.id) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir_, ": special token \"", token.content, "\" is not in the vocabulary"));
    }
    const int64_t id = it != out.vocabulary.end() ? it->second : *token.id;
    if (token.id.value_or(id) != id || id < 0 || id > INT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat(dir_, ": special token \"", token.content,
                                                     "\" is declared with id ", *token.id,
                                                     ", the vocabulary says ", id));
    }
    out.special_tokens.push_back({token.content, id, token.normalized});
    return absl::OkStatus();
  }

  std::string dir_;
  json config_;
  std::map<std::string, Declared> declared_;
  std::vector<Declared> order_;
  std::map<std::string, size_t> positions_;  ///< In TokenizerFiles::special_tokens.
};

absl::Status ReadSettings(const std::string& path, const json& config, TokenizerFiles& out) {
  const json name = config.value("tokenizer_class", json());
  if (!name.is_null() && name != "CLIPTokenizer" && name != "CLIPTokenizerFast") {
    return absl::UnimplementedError(
        absl::StrCat(path, ": tokenizer_class = ", name.dump(), ", supported: CLIPTokenizer"));
  }
  const std::pair<const char*, json> fixed[] = {{"do_lower_case", true},
                                                {"add_prefix_space", false},
                                                {"split_special_tokens", false},
                                                {"padding_side", "right"},
                                                {"truncation_side", "right"}};
  for (const auto& [key, value] : fixed) {
    const json found = config.value(key, value);
    if (!found.is_null() && found != value) {
      return absl::UnimplementedError(absl::StrCat(path, ": ", key, " = ", found.dump(),
                                                   " is not supported, only ", value.dump()));
    }
  }
  const json length = config.value("model_max_length", json());
  if (!length.is_number_integer() || length.get<int64_t>() < 2 ||
      length.get<int64_t>() > kMaxLength) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": model_max_length = ", length.dump(),
        ": must be the text encoder's max_position_embeddings, which is 77 for Stable Diffusion"));
  }
  out.max_length = length.get<int64_t>();
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadVocabAndMerges(const std::string& where, std::string_view vocab,
                                std::string_view merges, TokenizerFiles& out) {
  const std::string vocab_path = where + "/vocab.json";
  const std::string merges_path = where + "/merges.txt";
  IMAGEDDPO_ASSIGN_OR_RETURN(const json entries, ParseJson(vocab, vocab_path));
  IMAGEDDPO_RETURN_IF_ERROR(ReadVocabulary(vocab_path, entries, out));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(merges, merges_path));
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(std::string(text), '\n')) {
    ++line_number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty() || absl::StartsWith(line, "#version")) continue;
    std::vector<std::string> parts = absl::StrSplit(line, ' ');
    if (parts.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          merges_path, ":", line_number, ": expected two tokens with one space between"));
    }
    out.merges.emplace_back(std::move(parts[0]), std::move(parts[1]));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& tokenizer_dir) {
  TokenizerFiles out;
  const std::string config_path = tokenizer_dir + "/tokenizer_config.json";
  IMAGEDDPO_ASSIGN_OR_RETURN(json config, ReadJson(config_path));
  IMAGEDDPO_RETURN_IF_ERROR(ReadSettings(config_path, config, out));

  const std::string whole_path = tokenizer_dir + "/tokenizer.json";
  json whole = json::object();
  if (Exists(whole_path)) {
    IMAGEDDPO_ASSIGN_OR_RETURN(whole, ReadJson(whole_path));
    IMAGEDDPO_RETURN_IF_ERROR(ReadModel(whole_path, whole, out));
  } else {
    IMAGEDDPO_RETURN_IF_ERROR(ReadVocabAndMergesOf(tokenizer_dir, out));
  }
  SpecialTokenTable table(tokenizer_dir, std::move(config));
  IMAGEDDPO_RETURN_IF_ERROR(table.Read(whole, out));
  return out;
}

}  // namespace imageddpo
