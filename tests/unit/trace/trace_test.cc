#include "deploy/trace/trace.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/io/file.h"
#include "common/io/safetensors.h"
#include "common/plan/costs.h"
#include "tests/testing/stored_pipeline.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

class TraceTest : public testing::Test {
 protected:
  static void ExpectRefused(const absl::Status& status, const std::string& what,
                            absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(std::string(status.message()).find(what), std::string::npos) << status;
  }

  /// A copy of a stored file with some tensors put in the place of others (undefined: removed).
  std::string Changed(const std::string& file, const TensorMap& changes) {
    TensorMap tensors;
    const auto original = SafetensorsFile::Open(stored_.File(file));
    EXPECT_TRUE(original.ok()) << original.status();
    for (const std::string& name : (*original)->names()) tensors[name] = *(*original)->Get(name);
    for (const auto& [name, tensor] : changes) {
      if (tensor.defined()) {
        tensors[name] = tensor;
      } else {
        tensors.erase(name);
      }
    }
    const std::string path = stored_.Output("changed-" + file);
    EXPECT_TRUE(WriteSafetensors(path, tensors).ok());
    return path;
  }

  const StoredPipeline stored_{"sd1-guided"};
};

TEST_F(TraceTest, RolloutNamesWhatIsWrong) {
  const auto refused = [&](const TensorMap& changes, const std::string& what,
                           absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    TraceRolloutOptions options = stored_.Rollout();
    options.inputs = Changed("inputs.safetensors", changes);
    ExpectRefused(TraceRollout(options), what, code);
    EXPECT_FALSE(std::filesystem::exists(options.output));
  };
  refused({{"image", {}}}, "image", absl::StatusCode::kNotFound);
  refused({{"image", at::rand({4, 3, 16, 16}).to(at::kDouble)}}, "image");
  refused({{"image", at::rand({4, 1, 16, 16})}}, "image");
  refused({{"image", at::rand({4, 3, 16, 16}) + 1}}, "image");
  refused({{"image", at::full({4, 3, 16, 16}, NAN)}}, "image");
  refused({{"encode_noise", at::randn({3, 4, 8, 8})}}, "encode_noise");
  refused({{"step_noise", at::randn({4, 3, 1, 8, 8})}}, "step_noise");
  refused({{"step_noise", at::randn({4, 2, 4, 8, 8})}}, "step_noise has 2 steps");

  TraceRolloutOptions options = stored_.Rollout();
  options.policy.precision = "fp64";
  ExpectRefused(TraceRollout(options), "--precision");
  options = stored_.Rollout();
  options.policy.device = "tpu";
  ExpectRefused(TraceRollout(options), "--device");
  options = stored_.Rollout();
  options.policy.num_threads = 0;
  ExpectRefused(TraceRollout(options), "--num-threads");
  options = stored_.Rollout();
  options.policy.num_steps = 0;
  ExpectRefused(TraceRollout(options), "num_steps");
  options = stored_.Rollout();
  options.policy.eta = 3;
  ExpectRefused(TraceRollout(options), "eta");
  options = stored_.Rollout();
  options.model = "no/such/folder";
  ExpectRefused(TraceRollout(options), "no/such/folder", absl::StatusCode::kNotFound);
}

TEST_F(TraceTest, EtaZeroIsARolloutWithoutLogProbs) {
  TraceRolloutOptions options = stored_.Rollout();
  options.policy.eta = 0;
  ASSERT_TRUE(TraceRollout(options).ok());
  const auto file = SafetensorsFile::Open(options.output);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->Get("log_probs")->abs().max().item<float>(), 0.0F);
}

TEST_F(TraceTest, UpdateNamesWhatIsWrong) {
  const auto refused = [&](const TensorMap& changes, const std::string& what) {
    TraceUpdateOptions options = stored_.Update();
    options.trajectory = Changed("trajectory.safetensors", changes);
    ExpectRefused(TraceUpdate(options), what);
    EXPECT_FALSE(std::filesystem::exists(options.output));
    EXPECT_FALSE(std::filesystem::exists(options.output_lora));
  };
  refused({{"latents", at::randn({4, 3, 4, 8, 8})}}, "latents");
  refused({{"timesteps", at::full({4, 3}, 1000, at::kLong)}}, "timesteps");
  refused({{"log_probs", at::zeros({4, 2})}}, "log_probs");
  refused({{"negative_prompt_embeds", at::zeros({4, 16, 9})}}, "negative_prompt_embeds");

  TraceUpdateOptions options = stored_.Update();
  options.gradient_accumulation_steps = 100;
  ExpectRefused(TraceUpdate(options), "no update");
  options = stored_.Update();
  options.train_batch_size = 0;
  ExpectRefused(TraceUpdate(options), "--train-batch-size");
  options = stored_.Update();
  options.optimizer = "sgd";
  ExpectRefused(TraceUpdate(options), "--optimizer");
  options = stored_.Update();
  options.update = "double_pass";
  ExpectRefused(TraceUpdate(options), "--update");
  options = stored_.Update();
  options.update = "single_pass";
  options.num_inner_epochs = 2;
  ExpectRefused(TraceUpdate(options), "--update single_pass is exact for one update");
}

TEST_F(TraceTest, UpdatesGoOnAcrossInnerEpochs) {
  TraceUpdateOptions options = stored_.Update();
  options.train_batch_size = 3;  // 3 + 1 samples.
  options.gradient_accumulation_steps = 3;
  options.num_inner_epochs = 3;
  ASSERT_TRUE(TraceUpdate(options).ok());
  const auto file = SafetensorsFile::Open(options.output);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->Get("grad_norm")->numel(), 2);
  EXPECT_EQ((*file)->Get("losses")->sizes(), at::IntArrayRef({18, 3}));
}

TEST_F(TraceTest, Advantages) {
  const std::string inputs = stored_.Output("rewards.safetensors");
  const TensorMap rewards = {{"rewards", at::tensor({1.0F, 3.0F, 2.0F, 6.0F}).view({2, 2})},
                             {"ids", at::tensor({1, 1, 1, 2}, at::kLong).view({2, 2})}};
  ASSERT_TRUE(WriteSafetensors(inputs, rewards).ok());
  TraceAdvantagesOptions options;
  options.inputs = inputs;
  options.output = stored_.Output("advantages.safetensors");
  ASSERT_TRUE(TraceAdvantages(options).ok());
  const auto global = SafetensorsFile::Open(options.output);
  EXPECT_TRUE(at::allclose(*(*global)->Get("advantages"),
                           at::tensor({-1.0F, 1.0F, -1.0F, 1.0F}).view({2, 2})));
  options.mode = "per_key";
  options.min_count = 2;
  ASSERT_TRUE(TraceAdvantages(options).ok());
  const auto per_key = SafetensorsFile::Open(options.output);
  EXPECT_TRUE(at::allclose(*(*per_key)->Get("advantages"),
                           at::tensor({-1.0F, 1.0F, 0.0F, 1.0F}).view({2, 2}), 1e-4, 1e-4));
  options.mode = "median";
  ExpectRefused(TraceAdvantages(options), "--mode");
  options.mode = "global";
  options.buffer_size = 0;
  ExpectRefused(TraceAdvantages(options), "--buffer-size");
}

TEST_F(TraceTest, CostsAreMeasuredAtEachBatchAndWrongOptionsRefused) {
  const TempDir dir;
  std::ofstream(dir / "job.yaml") << "model: {path: deploy/demo/tiny-sd}\ndata: {path: none}\n"
                                     "rewards: [{type: jpeg, measure: compressibility}]\n"
                                     "sample: {num_steps: 4, noise_strength: 0.5, batch_size: 4}\n"
                                     "train: {batch_size: 4}\ndevice: {num_threads: 1}\n";
  TraceCostsOptions options{.job = dir / "job.yaml", .output = dir / "costs.json"};
  options.min_seconds = 0;
  options.batch_sizes = {2, 1};
  ASSERT_TRUE(TraceCosts(options).ok()) << TraceCosts(options);
  const auto costs = Costs::FromJson(*ReadFile(options.output), options.output);
  ASSERT_TRUE(costs.ok()) << costs.status();
  for (const CostCurve* curve : {&costs->sample_step, &costs->gradient_step, &costs->replay_step,
                                 &costs->decode, &costs->draw, &costs->reward}) {
    ASSERT_EQ(curve->points().size(), 2u);
    EXPECT_DOUBLE_EQ(curve->points()[1].work, 2 * curve->points()[0].work);
  }
  EXPECT_EQ(costs->precision, "fp32");
  EXPECT_EQ(costs->num_threads, 1);
  EXPECT_FALSE(costs->link.measured);
  EXPECT_DOUBLE_EQ(costs->optimizer.points()[0].work, 11008);  // The LoRA's parameters.

  options.batch_sizes = {0};
  ExpectRefused(TraceCosts(options), "--batch-sizes");
  options.batch_sizes = {};
  options.most_steps = 0;
  ExpectRefused(TraceCosts(options), "--most-steps");
  options.most_steps = 1;
  options.job = dir / "none.yaml";
  EXPECT_FALSE(TraceCosts(options).ok());
}

/// Exit code of the program itself.
int ExitCode(const std::string& arguments) {
  const std::string program = std::string(std::getenv("IMAGEDDPO_BIN_DIR")) + "/imageddpo-trace ";
  return WEXITSTATUS(std::system((program + arguments + " >/dev/null 2>&1").c_str()));
}

TEST_F(TraceTest, ExitCodes) {
  EXPECT_EQ(ExitCode("--help"), 0);
  EXPECT_EQ(ExitCode(""), 1);
  EXPECT_EQ(ExitCode("rollout --model x"), 1);
  EXPECT_EQ(ExitCode("advantages --inputs no.safetensors --output o.safetensors"), 1);
  const TraceRolloutOptions rollout = stored_.Rollout();
  const std::string files = "rollout --model " + rollout.model + " --lora " + rollout.lora +
                            " --inputs " + rollout.inputs + " --output " + rollout.output;
  // Prompts that look like options or lists stay what they are.
  EXPECT_EQ(ExitCode(files + " --num-steps 6 --prompt '' --negative-prompt '[a, b]' --eta 0.5"), 0);
  EXPECT_EQ(ExitCode(files + " --num-steps 6 --prompt=--cat"), 0);
  EXPECT_EQ(ExitCode(files + " --num-steps 60"), 1);  // More steps than the file has noise for.
}

}  // namespace
}  // namespace imageddpo
