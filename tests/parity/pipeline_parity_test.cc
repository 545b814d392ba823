// Holds whole rollouts and updates against recordings of the original Python implementation (see
// record_pipeline.py), and a rollout's trajectory against its own replay.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "common/io/safetensors.h"
#include "tests/parity/stored_pipeline.h"

namespace imageddpo {
namespace {

class PipelineParity : public testing::TestWithParam<const char*> {
 protected:
  static std::shared_ptr<const SafetensorsFile> Open(const std::string& path) {
    auto file = SafetensorsFile::Open(path);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *file : nullptr;
  }

  /// Largest absolute difference between two files' tensors of one name.
  static double Distance(const SafetensorsFile& ours, const SafetensorsFile& theirs,
                         const std::string& name) {
    const absl::StatusOr<at::Tensor> a = ours.Get(name);
    const absl::StatusOr<at::Tensor> b = theirs.Get(name);
    EXPECT_TRUE(a.ok()) << a.status();
    EXPECT_TRUE(b.ok()) << b.status();
    if (!a.ok() || !b.ok() || a->sizes() != b->sizes() || a->scalar_type() != b->scalar_type()) {
      ADD_FAILURE() << name << " differs in shape or type";
      return 1e9;
    }
    return (a->to(at::kDouble) - b->to(at::kDouble)).abs().max().item().toDouble();
  }

  const StoredPipeline stored_{GetParam()};
};

class UpdateParity : public PipelineParity {};

std::string TestName(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

TEST_P(PipelineParity, Rollout) {
  const TraceRolloutOptions options = stored_.Rollout();
  const absl::Status status = TraceRollout(options);
  ASSERT_TRUE(status.ok()) << status;
  const auto ours = Open(options.output);
  const auto theirs = Open(stored_.File("trajectory.safetensors"));
  ASSERT_TRUE(ours && theirs);
  const std::pair<const char*, double> bounds[] = {
      {"prompt_ids", 0},       {"timesteps", 0},
      {"prompt_embeds", 2e-5}, {"negative_prompt_embeds", 2e-5},
      {"latents", 2e-5},       {"next_latents", 2e-5},
      {"log_probs", 1e-4},     {"images", 2e-5}};
  for (const auto& [name, bound] : bounds) {
    const double error = Distance(*ours, *theirs, name);
    EXPECT_LE(error, bound) << name;
    std::printf("    %-24s %.1e\n", name, error);
  }
}

TEST_P(UpdateParity, Update) {
  const TraceUpdateOptions options = stored_.Update();
  const absl::Status status = TraceUpdate(options);
  ASSERT_TRUE(status.ok()) << status;
  const auto ours = Open(options.output);
  const auto theirs = Open(stored_.File("update.safetensors"));
  ASSERT_TRUE(ours && theirs);
  ASSERT_EQ(ours->names().size(), theirs->names().size());

  const at::Tensor losses = *ours->Get("losses");
  const at::Tensor expected = *theirs->Get("losses");
  const at::Tensor scale = expected.select(1, 0).abs().clamp_min(1e-3);
  const double loss_error =
      ((losses - expected).select(1, 0).abs() / scale).max().item().toDouble();
  EXPECT_LE(loss_error, 1e-5);
  EXPECT_LE((losses - expected).select(1, 1).abs().max().item().toDouble(), 1e-7);  // approx_kl
  EXPECT_EQ((losses - expected).select(1, 2).abs().max().item().toDouble(), 0);     // clipfrac

  double gradient_error = 0;
  for (const std::string& name : theirs->names()) {
    if (name.rfind("grad.", 0) != 0) continue;
    const at::Tensor gradient = *theirs->Get(name);
    const absl::StatusOr<at::Tensor> found = ours->Get(name);
    ASSERT_TRUE(found.ok()) << found.status();
    const double norm = std::max(gradient.norm().item().toDouble(), 1e-12);
    gradient_error = std::max(gradient_error, (*found - gradient).norm().item().toDouble() / norm);
  }
  EXPECT_LE(gradient_error, 1e-3);
  const at::Tensor norms = *theirs->Get("grad_norm");
  EXPECT_GE(norms.numel(), 4);
  EXPECT_LE(((*ours->Get("grad_norm") - norms).abs() / norms).max().item().toDouble(), 1e-2);

  const auto lora = Open(options.output_lora);
  const auto lora_after = Open(stored_.File("lora-after.safetensors"));
  ASSERT_TRUE(lora && lora_after);
  ASSERT_EQ(lora->names().size(), lora_after->names().size());
  double lora_error = 0;
  for (const std::string& name : lora_after->names()) {
    lora_error = std::max(lora_error, Distance(*lora, *lora_after, name));
  }
  EXPECT_LE(lora_error, 1e-5);
  std::printf("    loss %.1e, gradients %.1e, LoRA after %.1e\n", loss_error, gradient_error,
              lora_error);
}

TEST_P(PipelineParity, AReplayOfOurOwnRolloutHasRatioOne) {
  const TraceRolloutOptions rollout = stored_.Rollout();
  ASSERT_TRUE(TraceRollout(rollout).ok());
  TraceUpdateOptions options = stored_.Update();
  options.trajectory = rollout.output;
  options.train_batch_size = 4;  // The rollout's micro-batch.
  options.gradient_accumulation_steps = 1;
  options.num_inner_epochs = 1;
  ASSERT_TRUE(TraceUpdate(options).ok());
  const auto ours = Open(options.output);
  ASSERT_TRUE(ours);
  const at::Tensor approx_kl = ours->Get("losses")->select(1, 1);
  EXPECT_EQ(approx_kl.abs().max().item().toDouble(), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Stored, PipelineParity,
                         testing::Values("sd1-plain", "sd1-guided", "sd2-guided", "sd2-rescaled"),
                         TestName);
// Not the rescaled one: the original's update forgets the rescale.
INSTANTIATE_TEST_SUITE_P(Stored, UpdateParity,
                         testing::Values("sd1-plain", "sd1-guided", "sd2-guided"), TestName);

}  // namespace
}  // namespace imageddpo
