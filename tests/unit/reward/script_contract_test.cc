#include "rollout/reward/script_contract.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ContractError(const std::string& text) {
  const auto contract = ParseScriptContract(text, "'a.pt': imageddpo.json");
  if (contract.ok()) return "";
  EXPECT_THAT(std::string(contract.status().message()), HasSubstr("'a.pt': imageddpo.json: "));
  return std::string(contract.status().message());
}

TEST(ScriptContract, ReadsEveryKey) {
  const auto contract = ParseScriptContract(
      R"({"format": 1, "inputs": ["generated", "prompt_tokens", "label", "input", "target"],
          "outputs": ["similarity", "norm"], "value": "norm",
          "tokenizer": {"type": "clip", "length": 77, "bos_token_id": 5, "eos_token_id": 6,
                        "pad_token_id": 0}})",
      "x");
  ASSERT_TRUE(contract.ok()) << contract.status();
  EXPECT_THAT(contract->inputs,
              ElementsAre(ScriptInput::kGenerated, ScriptInput::kPromptTokens, ScriptInput::kLabel,
                          ScriptInput::kInput, ScriptInput::kTarget));
  EXPECT_THAT(contract->outputs, ElementsAre("similarity", "norm"));
  EXPECT_EQ(contract->value, 1U);
  ASSERT_TRUE(contract->tokenizer.has_value());
  EXPECT_EQ(contract->tokenizer->length, 77);
  EXPECT_EQ(contract->tokenizer->bos_id, 5);
  EXPECT_EQ(contract->tokenizer->eos_id, 6);
  EXPECT_EQ(contract->tokenizer->pad_id, 0);
}

TEST(ScriptContract, TheFirstOutputIsTheValueAndNoneIsOneTensor) {
  const auto named =
      ParseScriptContract(R"({"format": 1, "inputs": ["input"], "outputs": ["a", "b"]})", "x");
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->value, 0U);
  const auto one = ParseScriptContract(R"({"format": 1, "inputs": ["generated"]})", "x");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_TRUE(one->outputs.empty());
  EXPECT_FALSE(one->tokenizer.has_value());
}

TEST(ScriptContract, RefusesByName) {
  EXPECT_THAT(ContractError("{"), HasSubstr("not JSON"));
  EXPECT_THAT(ContractError("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(ContractError(R"({"inputs": ["input"]})"), HasSubstr("\"format\" is missing"));
  EXPECT_THAT(ContractError(R"({"format": 2, "inputs": ["input"]})"), HasSubstr("\"format\" is 2"));
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": ["input"], "batch": 3})"),
              AllOf(HasSubstr("unknown key \"batch\""), HasSubstr("outputs")));
  EXPECT_THAT(ContractError(R"({"format": 1})"), HasSubstr("\"inputs\""));
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": []})"), HasSubstr("\"inputs\""));
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": ["image"]})"),
              AllOf(HasSubstr("\"image\""), HasSubstr("generated")));
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": ["input", "input"]})"), HasSubstr("twice"));
  const std::string outputs = R"({"format": 1, "inputs": ["input"], "outputs": )";
  EXPECT_THAT(ContractError(outputs + "[]}"), HasSubstr("\"outputs\""));
  EXPECT_THAT(ContractError(outputs + R"(["A b"]})"), HasSubstr("\"A b\""));
  EXPECT_THAT(ContractError(outputs + R"(["a", "a"]})"), HasSubstr("twice"));
  EXPECT_THAT(ContractError(outputs + R"(["a"], "value": "b"})"), HasSubstr("\"value\" is \"b\""));
  EXPECT_THAT(ContractError(outputs + R"(["a", "value"]})"), HasSubstr("\"value\""));
  EXPECT_EQ(ContractError(outputs + R"(["a", "value"], "value": "value"})"), "");
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": ["input"], "value": "a"})"),
              HasSubstr("no \"outputs\""));
}

TEST(ScriptContract, RefusesTokenizersByName) {
  const auto error_of = [](const std::string& tokenizer) {
    return ContractError(R"({"format": 1, "inputs": ["generated", "prompt_tokens"])" +
                         (tokenizer.empty() ? "" : ", \"tokenizer\": " + tokenizer) + "}");
  };
  EXPECT_THAT(error_of(""), HasSubstr("needs a \"tokenizer\""));
  EXPECT_THAT(error_of("7"), HasSubstr("not an object"));
  EXPECT_THAT(error_of(R"({"type": "bert"})"), HasSubstr("\"tokenizer.type\" is \"bert\""));
  EXPECT_THAT(error_of(R"({"type": "clip", "folder": "x"})"),
              HasSubstr("unknown key \"tokenizer.folder\""));
  const std::string ids = R"(, "bos_token_id": 1, "eos_token_id": 2})";
  EXPECT_THAT(error_of(R"({"type": "clip", "length": 1, "pad_token_id": 0)" + ids),
              HasSubstr("\"tokenizer.length\" is 1"));
  EXPECT_THAT(error_of(R"({"type": "clip", "length": 7)" + ids),
              HasSubstr("\"tokenizer.pad_token_id\" is missing"));
  EXPECT_EQ(error_of(R"({"type": "clip", "length": 7, "pad_token_id": 0)" + ids), "");
  EXPECT_THAT(ContractError(R"({"format": 1, "inputs": ["generated"], "tokenizer": {"type": "clip",
                          "length": 7, "pad_token_id": 0)" +
                            ids + "}"),
              HasSubstr("no input \"prompt_tokens\""));
}

}  // namespace
}  // namespace imageddpo
