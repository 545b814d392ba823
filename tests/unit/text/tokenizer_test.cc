#include "common/text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

constexpr char kFolder[] = "tests/data/parity/algorithms/tokenizers/sd1/";
constexpr int64_t kBos = 3512;
constexpr int64_t kEos = 3513;

std::string Text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The stored tokenizer's files, of which single ones can be changed before Load().
class Folder {
 public:
  Folder() {
    for (const char* name :
         {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
      dir_.Write(name, Text(std::string(kFolder) + name));
    }
  }
  void Write(const std::string& name, const std::string& text) { dir_.Write(name, text); }
  void Remove(const std::string& name) { std::filesystem::remove(dir_ / name); }
  void Set(const std::string& name, const std::string& key, const nlohmann::json& value) {
    nlohmann::json root = nlohmann::json::parse(dir_.Read(name));
    root[key] = value;
    dir_.Write(name, root.dump());
  }
  absl::StatusOr<std::unique_ptr<ClipTokenizer>> Load() const {
    return ClipTokenizer::Load(dir_.path());
  }
  void ExpectRefused(const std::string& what) const {
    const auto tokenizer = Load();
    ASSERT_FALSE(tokenizer.ok()) << what;
    EXPECT_NE(std::string(tokenizer.status().message()).find(what), std::string::npos)
        << tokenizer.status();
  }

 private:
  TempDir dir_;
};

TEST(ClipTokenizer, PadsAndTruncates) {
  const auto tokenizer = ClipTokenizer::Load(kFolder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->max_length(), 77);
  EXPECT_EQ((*tokenizer)->vocabulary_size(), kEos + 1);
  const std::vector<int64_t> empty = (*tokenizer)->Encode("");
  ASSERT_EQ(empty.size(), 77u);
  EXPECT_EQ(empty[0], kBos);
  for (size_t i = 1; i < 77; ++i) EXPECT_EQ(empty[i], kEos);
  std::string words;
  for (int i = 0; i < 1000; ++i) words += "cat ";
  const std::vector<int64_t> full = (*tokenizer)->Encode(words);
  ASSERT_EQ(full.size(), 77u);
  EXPECT_EQ(full[76], kEos);
  EXPECT_EQ(full[75], full[1]);
}

TEST(ClipTokenizer, KnowsWhichTextsAreCut) {
  const auto tokenizer = ClipTokenizer::Load(kFolder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // Single digits are a token each; 75 stand between bos and eos.
  EXPECT_FALSE((*tokenizer)->IsCut(""));
  EXPECT_FALSE((*tokenizer)->IsCut(std::string(75, '1')));
  EXPECT_TRUE((*tokenizer)->IsCut(std::string(76, '1')));
  EXPECT_TRUE((*tokenizer)->IsCut(std::string(76, '1') + "   "));
  EXPECT_TRUE((*tokenizer)->IsCut(std::string(50, '\xff'))) << "two tokens or more for each";
}

TEST(ClipTokenizer, LongWordsTakeNoTimeWorthMentioning) {
  const auto tokenizer = ClipTokenizer::Load(kFolder);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ((*tokenizer)->Encode(std::string(1 << 20, 'a')).size(), 77u);
}

TEST(ClipTokenizer, FilesOfAnotherEncodingAreRefusedByName) {
  for (const char* name :
       {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
    Folder latin1;
    latin1.Write(name, "{\n\"caf\xe9\": 1}");
    latin1.ExpectRefused(std::string(name) + ":2: the line is not UTF-8: \"caf\\xE9\": 1}");
    Folder utf16;
    utf16.Write(name, std::string("\xff\xfe{\0}\0", 6));
    utf16.ExpectRefused(std::string(name) + " is text in UTF-16 or UTF-32; save it as UTF-8");
  }
  Folder marked;
  for (const char* name : {"vocab.json", "merges.txt"}) {
    marked.Write(name, "\xef\xbb\xbf" + Text(std::string(kFolder) + name));
  }
  const auto tokenizer = marked.Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("a cat"), (*ClipTokenizer::Load(kFolder))->Encode("a cat"));
}

TEST(ClipTokenizer, MalformedUtf8CountsAsReplacementCharacters) {
  const auto tokenizer = ClipTokenizer::Load(kFolder);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ((*tokenizer)->Encode("a \xff cat"), (*tokenizer)->Encode("a \uFFFD cat"));
}

TEST(ClipTokenizer, WordsWithoutATokenAreUnknown) {
  const TempDir dir;
  dir.Write("vocab.json", R"({"a": 0, "b</w>": 1, "ab</w>": 2, "<s>": 3, "</s>": 4})");
  dir.Write("merges.txt", "#version: 0.2\na b</w>\n");
  dir.Write("tokenizer_config.json", R"({"model_max_length": 8, "bos_token": "<s>",
    "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<s>"})");
  const auto tokenizer = ClipTokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("B ab x"), (std::vector<int64_t>{3, 1, 2, 4, 4, 3, 3, 3}));
}

TEST(ClipTokenizer, TokensBeyondTheVocabularyAreFound) {
  Folder folder;
  folder.Write("added_tokens.json", R"({"<cat-toy>": 3514})");
  const auto tokenizer = folder.Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 3515);
  const std::vector<int64_t> ids = (*tokenizer)->Encode("a <CAT-toy>!");
  EXPECT_EQ(ids[2], 3514);
}

/// The stored tokenizer without its folder.
absl::StatusOr<std::unique_ptr<ClipTokenizer>> FromTexts(const std::string& vocab,
                                                         const std::string& merges,
                                                         const ClipTokenizer::Settings& settings) {
  return ClipTokenizer::FromTexts("'a.pt': tokenizer", vocab, merges, settings);
}

TEST(ClipTokenizer, OfAVocabularyAndItsMergesIsThatOfTheFolder) {
  const auto folder = ClipTokenizer::Load(kFolder);
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string vocab = Text(std::string(kFolder) + "vocab.json");
  const std::string merges = Text(std::string(kFolder) + "merges.txt");
  const auto same = FromTexts(
      vocab, merges,
      {.max_length = (*folder)->max_length(), .bos_id = kBos, .eos_id = kEos, .pad_id = kEos});
  ASSERT_TRUE(same.ok()) << same.status();
  for (const char* text : {"", "a photo of a cat", "Two cats, 3 dogs & a \xc3\xa9lan!",
                           "x <|endoftext|> y<|startoftext|>", "\xff\xfe"}) {
    EXPECT_EQ((*same)->Encode(text), (*folder)->Encode(text)) << text;
  }
  const auto other =
      FromTexts(vocab, merges, {.max_length = 5, .bos_id = kEos, .eos_id = kBos, .pad_id = 0});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->Encode(""), (std::vector<int64_t>{kEos, kBos, 0, 0, 0}));
  EXPECT_EQ((*other)->Encode("a photo of a cat on a mat").size(), 5U);
}

TEST(ClipTokenizer, OfTextsIsRefusedByName) {
  const ClipTokenizer::Settings settings{.max_length = 5, .bos_id = 0, .eos_id = 1, .pad_id = 1};
  const auto error_of = [&](const std::string& vocab, const std::string& merges) {
    return std::string(FromTexts(vocab, merges, settings).status().message());
  };
  EXPECT_NE(error_of("[]", "").find("'a.pt': tokenizer/vocab.json"), std::string::npos);
  EXPECT_NE(error_of("{\"a\": 0, \"b\": 1}", "a b c\n").find("merges.txt:1"), std::string::npos);
  EXPECT_NE(error_of("{\"a\": 0, \"b\": 1}", "a b\n").find("\"ab\""), std::string::npos);
  EXPECT_NE(error_of("{\"a\": 0}", "").find("no token with the id 1"), std::string::npos);
}

TEST(ClipTokenizer, RefusesByName) {
  ASSERT_TRUE(Folder().Load().ok());
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    Folder folder;
    folder.Remove(name);
    folder.ExpectRefused(name);
    EXPECT_EQ(folder.Load().status().code(), absl::StatusCode::kNotFound);
    folder.Write(name, name == std::string("merges.txt") ? "a b c\n" : "[1]");
    folder.ExpectRefused(name);
  }
  const std::pair<const char*, nlohmann::json> settings[] = {
      {"model_max_length", nullptr},      {"model_max_length", 1e30},
      {"do_lower_case", false},           {"padding_side", "left"},
      {"tokenizer_class", "T5Tokenizer"}, {"truncation_side", "left"}};
  for (const auto& [key, value] : settings) {
    Folder folder;
    folder.Set("tokenizer_config.json", key, value);
    folder.ExpectRefused(key);
  }
  Folder special;
  special.Set("special_tokens_map.json", "bos_token", "<nowhere>");
  special.ExpectRefused("<nowhere>");
  Folder stripped;
  stripped.Set("special_tokens_map.json", "pad_token", {{"content", "!"}, {"lstrip", true}});
  stripped.ExpectRefused("lstrip");
  Folder vocab;
  vocab.Set("vocab.json", "!", -1);
  vocab.ExpectRefused("\"!\"");
  Folder merges;
  merges.Write("merges.txt", "#version: 0.2\nqq zz\n");
  merges.ExpectRefused("qq");
  Folder whole;
  whole.Write("tokenizer.json", R"({"model": {"type": "WordPiece"}})");
  whole.ExpectRefused("tokenizer.json");
}

}  // namespace
}  // namespace imageddpo
