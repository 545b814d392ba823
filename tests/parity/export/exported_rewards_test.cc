// Runs reward files that deploy/rewards/export made with this tree's libtorch, as the service does,
// and holds them against what their Python originals returned (record_rewards.py). Runs over the
// files stored in the tree.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/io/safetensors.h"
#include "common/text/tokenizer.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using Json = nlohmann::json;

constexpr char kFolder[] = "tests/data/parity/rewards";
// Of the larger of 1 and the largest expected value; float32 sums in another order, on another
// processor, over two layers.
constexpr double kTolerance = 2e-5;

std::vector<std::string> RewardNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ExportedReward : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string folder = std::string(kFolder) + "/" + GetParam();
    const auto reference = SafetensorsFile::Open(folder + "/reference.safetensors");
    ASSERT_TRUE(reference.ok()) << reference.status();
    reference_ = *reference;
    extra_ = {{"imageddpo.json", ""}, {"tokenizer/vocab.json", ""}, {"tokenizer/merges.txt", ""}};
    module_ = torch::jit::load(folder + "/reward.pt", at::kCPU, extra_);
    module_.eval();
    description_ = Json::parse(extra_.at("imageddpo.json"));
  }

  at::Tensor Get(const std::string& name) const {
    const auto tensor = reference_->Get(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return tensor.ok() ? *tensor : at::Tensor();
  }

  /// forward's arguments in the file's order. Images were recorded as whole levels.
  std::vector<at::Tensor> Inputs(const std::string& case_name) const {
    std::vector<at::Tensor> inputs;
    for (const auto& input : description_.at("inputs")) {
      const at::Tensor stored = Get(case_name + "." + input.get<std::string>());
      const bool levels = stored.scalar_type() == at::kByte;
      inputs.push_back(levels ? stored.to(at::kFloat).div(255) : stored);
    }
    return inputs;
  }

  std::vector<at::Tensor> Forward(const std::vector<at::Tensor>& inputs) {
    const at::NoGradGuard no_grad;
    const c10::IValue returned =
        module_.forward(std::vector<c10::IValue>(inputs.begin(), inputs.end()));
    if (returned.isTensor()) return {returned.toTensor()};
    std::vector<at::Tensor> values;
    for (const c10::IValue& value : returned.toTupleRef().elements()) {
      values.push_back(value.toTensor());
    }
    return values;
  }

  std::vector<std::string> Outputs() const {
    if (!description_.contains("outputs")) return {"value"};
    return description_.at("outputs").get<std::vector<std::string>>();
  }

  std::shared_ptr<const SafetensorsFile> reference_;
  torch::jit::ExtraFilesMap extra_;
  torch::jit::Module module_;
  Json description_;
};

TEST_P(ExportedReward, ReturnsWhatItsPythonOriginalDoes) {
  EXPECT_EQ(description_.at("format"), 1);
  const std::vector<std::string> outputs = Outputs();
  for (const std::string case_name : {"0", "1"}) {
    const std::vector<at::Tensor> values = Forward(Inputs(case_name));
    ASSERT_EQ(values.size(), outputs.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const at::Tensor expected = Get(case_name + ".value." + outputs[i]);
      ASSERT_EQ(values[i].scalar_type(), at::kFloat);
      ASSERT_EQ(values[i].sizes(), expected.sizes());
      const double error = values[i].sub(expected).abs().max().item().toDouble();
      const double size = std::max(1.0, expected.abs().max().item().toDouble());
      std::printf("    %-18s max error %.1e of %.3g\n", outputs[i].c_str(), error, size);
      EXPECT_LE(error, kTolerance * size) << "case " << case_name << ", " << outputs[i];
    }
  }
}

TEST_P(ExportedReward, ScoresAnImageAloneAsInABatch) {
  const std::vector<at::Tensor> batch = Inputs("1");
  const std::vector<at::Tensor> together = Forward(batch);
  for (int64_t row = 0; row < batch[0].size(0); ++row) {
    std::vector<at::Tensor> alone;
    for (const at::Tensor& input : batch) alone.push_back(input.narrow(0, row, 1));
    const std::vector<at::Tensor> values = Forward(alone);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(values[i].item().toDouble(), together[i][row].item().toDouble(),
                  kTolerance * std::max(1.0, together[i].abs().max().item().toDouble()));
    }
  }
}

/// The value is one of the outputs, and a file has a tokenizer exactly where it takes tokens.
TEST_P(ExportedReward, DescribesItself) {
  if (description_.contains("outputs")) {
    const std::vector<std::string> outputs = Outputs();
    const std::string value = description_.at("value");
    EXPECT_NE(std::find(outputs.begin(), outputs.end(), value), outputs.end());
  }
  const std::vector<std::string> inputs = description_.at("inputs");
  const bool has_tokens = std::find(inputs.begin(), inputs.end(), "prompt_tokens") != inputs.end();
  EXPECT_EQ(description_.contains("tokenizer"), has_tokens);
  EXPECT_EQ(extra_.at("tokenizer/vocab.json").empty(), !has_tokens);
}

INSTANTIATE_TEST_SUITE_P(Stored, ExportedReward, testing::ValuesIn(RewardNames()),
                         [](const auto& info) { return info.param; });

/// Our tokenizer, from the files in the archive, gives the tokens that transformers gave.
TEST(ExportedTokenizer, GivesTheTokensOfThePackage) {
  const std::string folder = std::string(kFolder) + "/similarity";
  torch::jit::ExtraFilesMap extra = {
      {"imageddpo.json", ""}, {"tokenizer/vocab.json", ""}, {"tokenizer/merges.txt", ""}};
  torch::jit::load(folder + "/reward.pt", at::kCPU, extra);
  const Json description = Json::parse(extra.at("imageddpo.json")).at("tokenizer");
  ASSERT_EQ(description.at("type"), "clip");

  const Json vocabulary = Json::parse(extra.at("tokenizer/vocab.json"));
  const auto token_of = [&](const char* key) {
    for (const auto& [token, id] : vocabulary.items()) {
      if (id == description.at(key)) return token;
    }
    return std::string();
  };
  TempDir dir;
  dir.Write("vocab.json", extra.at("tokenizer/vocab.json"));
  dir.Write("merges.txt", extra.at("tokenizer/merges.txt"));
  dir.Write("tokenizer_config.json", Json({{"tokenizer_class", "CLIPTokenizer"},
                                           {"model_max_length", description.at("length")},
                                           {"bos_token", token_of("bos_token_id")},
                                           {"eos_token", token_of("eos_token_id")},
                                           {"unk_token", token_of("eos_token_id")},
                                           {"pad_token", token_of("pad_token_id")}})
                                         .dump());
  const auto tokenizer = ClipTokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const auto reference = SafetensorsFile::Open(folder + "/reference.safetensors");
  ASSERT_TRUE(reference.ok()) << reference.status();
  const auto expected = (*reference)->Get("0.prompt_tokens");
  ASSERT_TRUE(expected.ok()) << expected.status();
  std::ifstream prompts(folder + "/prompts.txt");
  std::string prompt;
  int64_t row = 0;
  for (; std::getline(prompts, prompt); ++row) {
    const std::vector<int64_t> ids = (*tokenizer)->Encode(prompt);
    const at::Tensor want = (*expected)[row].contiguous();
    const int64_t* const data = want.const_data_ptr<int64_t>();
    EXPECT_EQ(ids, std::vector<int64_t>(data, data + want.numel())) << prompt;
  }
  EXPECT_EQ(row, expected->size(0));
}

}  // namespace
}  // namespace imageddpo
