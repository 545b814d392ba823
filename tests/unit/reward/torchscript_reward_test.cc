#include "rollout/reward/torchscript_reward.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "common/io/file.h"
#include "common/io/image.h"
#include "rollout/reward/make_reward.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/reward_inputs.h"
#include "tests/unit/reward/script_writer.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kMean[] = "def forward(self, x):\n  return x.mean([1, 2, 3])\n";
const std::string kTokenizer = "deploy/demo/tiny-sd/tokenizer";

class TorchScriptRewardTest : public ::testing::Test {
 protected:
  TorchScriptRewardTest() {
    for (const char* name : {"a.png", "b.png"}) dir_.Write(name, *EncodePng({1, 1, {1, 2, 3}}));
  }

  absl::StatusOr<std::unique_ptr<Reward>> Make(const std::string& source,
                                               const std::string& contract = "",
                                               std::map<std::string, std::string> extra_files = {},
                                               RewardType type = RewardType::kTorchScript) {
    if (!contract.empty()) extra_files[kContractFile] = contract;
    RewardConfig config;
    config.type = type;
    config.measure = RewardMeasure::kLogitMaxMargin;
    config.model = dir_ / "scorer.pt";
    WriteScript(config.model, source, extra_files);
    return MakeReward(config, at::kCPU, {.warn = [this](const std::string& warning) {
                        warnings_.push_back(warning);
                      }});
  }

  /// Two images of one value each, their inputs and targets; labels 3 and 5.
  static std::shared_ptr<RewardBatch> TwoImages() {
    const auto images = [](double first, double second) {
      const at::Tensor images_BCHW = at::full({2, 3, 4, 4}, first);
      images_BCHW.select(0, 1).fill_(second);
      return images_BCHW;
    };
    const auto batch = MakeBatch(images(0.25, 0.5), images(0.125, 0.75), {3, 5});
    batch->targets_BCHW = images(1, 0);
    batch->prompts = {"a photo of a dog", "Two cats!"};
    return batch;
  }

  absl::StatusOr<RewardOutput> ScoreWith(const std::string& source,
                                         const std::string& contract = "",
                                         const std::map<std::string, std::string>& extra = {}) {
    auto reward = Make(source, contract, extra);
    if (!reward.ok()) return reward.status();
    return Score(reward->get(), TwoImages());
  }

  std::string ErrorOf(const std::string& source, const std::string& contract = "",
                      const std::map<std::string, std::string>& extra = {}) {
    return std::string(ScoreWith(source, contract, extra).status().message());
  }

  /// What the start of a job says.
  std::string StartErrorOf(const std::string& source, const std::string& contract = "",
                           RewardType type = RewardType::kTorchScript,
                           const std::string& line_end = ", \"label\": 0") {
    dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\"" + line_end + "}");
    const auto dataset = Dataset::Open(dir_.path());
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    auto reward = Make(source, contract, {}, type);
    EXPECT_TRUE(reward.ok()) << reward.status();
    return std::string((*reward)->CheckDataset(*dataset, 8, 8).message());
  }

  TempDir dir_;
  std::vector<std::string> warnings_;
};

TEST_F(TorchScriptRewardTest, WithoutAContractItTakesTheImages) {
  for (const std::string columns : {"", ".unsqueeze(1)", ".to(15)", ".to(5).unsqueeze(1)", ".to(7)",
                                    ".reshape([-1, 1, 1, 1])"}) {
    const auto output =
        ScoreWith("def forward(self, x):\n  return x.mean([1, 2, 3])" + columns + "\n");
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_THAT(ValuesOf(*output), ElementsAre(0.25, 0.5)) << columns;
    EXPECT_TRUE(output->parts.empty());
  }
}

TEST_F(TorchScriptRewardTest, GivesWhatTheContractAsksForInItsOrder) {
  const auto output = ScoreWith(
      "def forward(self, label, target, x, generated):\n"
      "  means = [t.mean([1, 2, 3]) for t in [target, x, generated]]\n"
      "  return label.to(6) * 1000 + means[0] * 100 + means[1] * 10 + means[2]\n",
      R"({"format": 1, "inputs": ["label", "target", "input", "generated"]})");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(3101.5, 5008.0));
}

TEST_F(TorchScriptRewardTest, SaysWhetherItWantsTargets) {
  EXPECT_FALSE((*Make(kMean))->wants().targets);
  EXPECT_TRUE((*Make(kMean, R"({"format": 1, "inputs": ["target"]})"))->wants().targets);
}

TEST_F(TorchScriptRewardTest, TokensAreThoseOfTheTokenizerInside) {
  const auto clip = ClipTokenizer::Load(kTokenizer);
  ASSERT_TRUE(clip.ok()) << clip.status();
  const std::vector<int64_t> bare = (*clip)->Encode("");
  const auto number = [](int64_t id) { return std::to_string(id); };
  const std::string contract =
      R"({"format": 1, "inputs": ["prompt_tokens"], "outputs": ["checksum", "first", "last"],
          "tokenizer": {"type": "clip", "length": )" +
      number((*clip)->max_length()) + R"(, "bos_token_id": )" + number(bare[0]) +
      R"(, "eos_token_id": )" + number(bare[1]) + R"(, "pad_token_id": )" + number(bare[2]) + "}}";
  constexpr char kChecksum[] =
      "def forward(self, tokens):\n"
      "  weights = torch.arange(tokens.size(1)) + 1\n"
      "  return ((tokens * weights).sum(1).to(7), tokens[:, 0].to(6),\n"
      "          tokens[:, -1].to(6))\n";
  std::map<std::string, std::string> files = {
      {kVocabularyFile, *ReadFile(kTokenizer + "/vocab.json")},
      {kMergesFile, *ReadFile(kTokenizer + "/merges.txt")}};
  const auto output = ScoreWith(kChecksum, contract, files);
  ASSERT_TRUE(output.ok()) << output.status();
  const auto batch = TwoImages();
  for (size_t i = 0; i < 2; ++i) {
    double checksum = 0, weight = 0;
    const std::vector<int64_t> tokens = (*clip)->Encode(batch->prompts[i]);
    for (const int64_t token : tokens) checksum += ++weight * static_cast<double>(token);
    EXPECT_EQ(ValuesOf(*output)[i], checksum) << batch->prompts[i];
    EXPECT_EQ(output->parts.at("checksum")[i], checksum);
    EXPECT_EQ(output->parts.at("first")[i], static_cast<double>(tokens.front()));
    EXPECT_EQ(output->parts.at("last")[i], static_cast<double>(tokens.back()));
  }
  EXPECT_NE(ValuesOf(*output)[0], ValuesOf(*output)[1]);

  files.erase(kMergesFile);
  EXPECT_THAT(ErrorOf(kChecksum, contract, files),
              AllOf(HasSubstr("scorer.pt"), HasSubstr(kMergesFile), HasSubstr("_extra_files")));
  files[kMergesFile] = "one two three\n";
  EXPECT_THAT(ErrorOf(kChecksum, contract, files), HasSubstr("merges.txt:1"));
}

TEST_F(TorchScriptRewardTest, NamesTuplesAndDicts) {
  const std::string contract =
      R"({"format": 1, "inputs": ["generated"], "outputs": ["a", "b"], "value": "b"})";
  for (const std::string returned :
       {"(m, m * 2)", "{\"b\": m * 2, \"a\": m}", "[m, (m * 2).unsqueeze(1)]"}) {
    const auto output = ScoreWith(
        "def forward(self, x):\n  m = x.mean([1, 2, 3])\n  return " + returned + "\n", contract);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_THAT(ValuesOf(*output), ElementsAre(0.5, 1.0)) << returned;
    EXPECT_THAT(output->parts.at("a"), ElementsAre(0.25, 0.5)) << returned;
    EXPECT_THAT(output->parts.at("b"), ElementsAre(0.5, 1.0)) << returned;
  }
}

TEST_F(TorchScriptRewardTest, AnOutputCalledValueIsNoPart) {
  const auto output =
      ScoreWith(kMean, R"({"format": 1, "inputs": ["generated"], "outputs": ["value"]})");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE(output->parts.empty());
}

TEST_F(TorchScriptRewardTest, RefusesOtherOutputs) {
  const auto returning = [](const std::string& what) {
    return "def forward(self, x):\n  m = x.mean([1, 2, 3])\n  return " + what + "\n";
  };
  EXPECT_THAT(ErrorOf(returning("(m, m)")), AllOf(HasSubstr("2 tensors"), HasSubstr("expected 1")));
  EXPECT_THAT(ErrorOf(returning("x")), HasSubstr("[2, 3, 4, 4]"));
  EXPECT_THAT(ErrorOf(returning("m.to(4)")), HasSubstr("Long"));
  EXPECT_THAT(ErrorOf(returning("m[:1]")), HasSubstr("[1]"));
  EXPECT_THAT(ErrorOf(returning("3")), HasSubstr("Int"));
  const std::string two = R"({"format": 1, "inputs": ["generated"], "outputs": ["a", "b"]})";
  EXPECT_THAT(ErrorOf(returning("m"), two), AllOf(HasSubstr("1 tensors"), HasSubstr("a, b")));
  EXPECT_THAT(ErrorOf(returning("{\"a\": m, \"c\": m}"), two), HasSubstr("no tensor \"b\""));
  EXPECT_THAT(ErrorOf(returning("m"), R"({"format": 9})"),
              AllOf(HasSubstr("rewards.model"), HasSubstr("scorer.pt"), HasSubstr("format")));
}

TEST_F(TorchScriptRewardTest, WeightsOfHalfPrecisionAreToldWithTheRemedy) {
  WriteScript(dir_ / "half.pt",
              "def forward(self, x):\n"
              "  return torch.matmul(x.flatten(1), self.weight.t()).squeeze(1)\n",
              {}, at::full({1, 48}, 0.5, at::kHalf));
  auto reward = MakeReward({.type = RewardType::kTorchScript, .model = dir_ / "half.pt"}, at::kCPU);
  ASSERT_TRUE(reward.ok()) << reward.status();
  const auto output = Score(reward->get(), TwoImages());
  EXPECT_THAT(std::string(output.status().message()),
              AllOf(HasSubstr("its weights are Half"), HasSubstr("export model.float()")));
}

TEST_F(TorchScriptRewardTest, NanIsTheItemsAlone) {
  const auto output =
      ScoreWith("def forward(self, x):\n  return (x.mean([1, 2, 3]) - 0.3).log()\n");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE(std::isnan(output->values_B[0].value()));
  EXPECT_FALSE(std::isnan(output->values_B[1].value()));
}

TEST_F(TorchScriptRewardTest, IsTriedAtTheStart) {
  EXPECT_EQ(StartErrorOf(kMean), "");
  EXPECT_THAT(
      StartErrorOf("def forward(self, x):\n  return torch.dropout(x, 0.5, True).sum([1, 2, 3])\n"),
      AllOf(HasSubstr("rewards.model"), HasSubstr("scorer.pt"), HasSubstr("second time"),
            HasSubstr("model.eval()")));
  EXPECT_THAT(StartErrorOf("def forward(self, x):\n"
                           "  return ((x - x.mean(0)) * x).sum([1, 2, 3])\n"),
              AllOf(HasSubstr("alone and beside others"), HasSubstr("model.eval()")));
  EXPECT_THAT(StartErrorOf("def forward(self, x):\n  return x.reshape([192]).sum().reshape([1])\n"),
              AllOf(HasSubstr("not 3 at once"), HasSubstr("torch.jit.trace with several")));
  EXPECT_THAT(StartErrorOf("def forward(self, x):\n  return (x.mean([1, 2, 3]) - 7).log()\n"),
              AllOf(HasSubstr("nan"), HasSubstr("the value"), HasSubstr("finite")));
  EXPECT_THAT(StartErrorOf("def forward(self, x):\n  return x\n"), HasSubstr("[1, 3, 8, 8]"));
}

TEST_F(TorchScriptRewardTest, OtherBitsTheSecondTimeAreAWarning) {
  EXPECT_EQ(StartErrorOf(kMean), "");
  EXPECT_THAT(warnings_, testing::IsEmpty());
  EXPECT_EQ(StartErrorOf("def forward(self, x):\n"
                         "  return x.mean([1, 2, 3]) * (1 + 1e-5 * torch.rand([1]))\n"),
            "");
  EXPECT_THAT(warnings_, ElementsAre(AllOf(HasSubstr("scorer.pt"), HasSubstr("other rounding"))));
}

TEST_F(TorchScriptRewardTest, RoundingAndPartsWithoutAValuePassAtTheStart) {
  EXPECT_EQ(StartErrorOf("def forward(self, x):\n"
                         "  return x.mean([1, 2, 3]) * (1 + 1e-4 * (x.size(0) - 1))\n"),
            "");
  EXPECT_EQ(StartErrorOf("def forward(self, x):\n"
                         "  m = x.mean([1, 2, 3])\n"
                         "  return (m, (m - 7).log())\n",
                         R"({"format": 1, "inputs": ["generated"], "outputs": ["a", "b"]})"),
            "");
}

TEST_F(TorchScriptRewardTest, ChecksLabelsAndTargetsAtTheStart) {
  const std::string with_label = R"({"format": 1, "inputs": ["generated", "label"]})";
  const std::string source = "def forward(self, x, y):\n  return x.mean([1, 2, 3])\n";
  EXPECT_EQ(StartErrorOf(source, with_label), "");
  EXPECT_THAT(StartErrorOf(source, with_label, RewardType::kTorchScript, ""),
              AllOf(HasSubstr("'a.png'"), HasSubstr("no label")));
  const std::string with_target = R"({"format": 1, "inputs": ["generated", "target"]})";
  EXPECT_THAT(StartErrorOf(source, with_target), AllOf(HasSubstr("'a.png'"), HasSubstr("target")));
  EXPECT_EQ(StartErrorOf(source, with_target, RewardType::kTorchScript,
                         ", \"target_file_name\": \"b.png\""),
            "");
}

TEST_F(TorchScriptRewardTest, ClassifiersAreTriedToo) {
  const auto error_of = [this](const std::string& logits) {
    return StartErrorOf(
        "def forward(self, x):\n  y = x.flatten(1)[:, :10]\n  return " + logits + "\n", "",
        RewardType::kClassifier);
  };
  EXPECT_EQ(error_of("y"), "");
  EXPECT_THAT(error_of("torch.dropout(y, 0.5, True)"),
              AllOf(HasSubstr("logit"), HasSubstr("model.eval()")));
  EXPECT_THAT(error_of("y.reshape([1, 10])"), HasSubstr("not 3 at once"));
  EXPECT_THAT(error_of("(y - 9).log()"), HasSubstr("logit 0"));
}

}  // namespace
}  // namespace imageddpo
