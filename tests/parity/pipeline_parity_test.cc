// Compares whole rollouts and updates with recordings of the original Python implementation (see
// record_pipeline.py), and a rollout's trajectory against its own replay.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/io/safetensors.h"
#include "tests/testing/stored_pipeline.h"

namespace imageddpo {
namespace {

// A recording was made on one processor; another one adds up in another order and rounds otherwise,
// by u = 2^-24 of what it adds.
//
// Gradients. The gradient of a log-probability divides the difference of two latents by the step's
// variance, so that u·|latent| becomes u·|latent|/sigma, some 1e-5 of it. The samples' advantages
// sum to zero and guidance subtracts two predictions and multiplies the rest by up to 7.5: what is
// left of the sum is a few hundredths of its parts, which gives some 1e-4. Processors with AVX-512,
// AVX2 and neither were 1.7e-4 apart at most. A tensor of which almost nothing is left carries the
// rounding of the others, so the scale is its own norm and its share of the whole gradient's.
constexpr double kGradientTolerance = 5e-4;
// LoRA. AdamW moves an element by learning rate · m/sqrt(v), whatever the gradient's size: relative
// errors count, twice, since m and v both have them. They are at most kGradientTolerance / kTiny
// for elements whose gradient is at least kTiny of the scale above; smaller ones may have either
// sign.
constexpr double kTiny = 0.1;

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
  // clipfrac: one ratio may lie as close to the bound as it is rounded.
  const double clipped =
      (losses - expected).select(1, 2).abs().sum().item().toDouble() * options.train_batch_size;
  EXPECT_LE(clipped, 1.0 + 1e-6);

  const int64_t num_updates = theirs->Get("grad_norm")->numel();
  // Of every update, by the parameter's name: its gradient's scale for one element, and which
  // elements have a gradient that is not tiny in any of them.
  std::map<std::string, at::Tensor> large;
  double gradient_error = 0;
  for (int64_t update = 0; update < num_updates; ++update) {
    const std::string prefix = absl::StrCat("grad.", update, ".");
    std::map<std::string, at::Tensor> expected_gradients;
    double sum_of_squares = 0;
    int64_t count = 0;
    for (const std::string& name : theirs->names()) {
      if (!absl::StartsWith(name, prefix)) continue;
      const at::Tensor gradient = theirs->Get(name)->to(at::kDouble);
      sum_of_squares += gradient.square().sum().item<double>();
      count += gradient.numel();
      expected_gradients[name.substr(prefix.size())] = gradient;
    }
    ASSERT_GT(count, 0);
    const double whole_rms = std::sqrt(sum_of_squares / static_cast<double>(count));
    for (const auto& [parameter, gradient] : expected_gradients) {
      const absl::StatusOr<at::Tensor> found = ours->Get(prefix + parameter);
      ASSERT_TRUE(found.ok()) << found.status();
      const double root_size = std::sqrt(static_cast<double>(gradient.numel()));
      const double scale = whole_rms + gradient.norm().item<double>() / root_size;
      gradient_error =
          std::max(gradient_error, (*found - gradient).norm().item<double>() / (scale * root_size));
      const at::Tensor here = gradient.abs() >= kTiny * scale;
      at::Tensor& everywhere = large[parameter];
      everywhere = everywhere.defined() ? everywhere.logical_and(here) : here;
    }
  }
  EXPECT_LE(gradient_error, kGradientTolerance);
  const at::Tensor norms = *theirs->Get("grad_norm");
  EXPECT_GE(norms.numel(), 4);
  EXPECT_LE(((*ours->Get("grad_norm") - norms).abs() / norms).max().item().toDouble(), 1e-2);

  const auto lora = Open(options.output_lora);
  const auto lora_after = Open(stored_.File("lora-after.safetensors"));
  ASSERT_TRUE(lora && lora_after);
  ASSERT_EQ(lora->names().size(), lora_after->names().size());
  const double most = options.learning_rate * static_cast<double>(num_updates);
  double lora_error = 0;
  double any_error = 0;
  int64_t compared = 0;
  int64_t count = 0;
  for (const std::string& name : lora_after->names()) {
    const at::Tensor error = (*lora->Get(name) - *lora_after->Get(name)).abs();
    const at::Tensor& elements = large.at(name);
    any_error = std::max(any_error, error.max().item().toDouble());
    lora_error = std::max(
        lora_error, at::where(elements, error, at::zeros_like(error)).max().item().toDouble());
    compared += elements.sum().item<int64_t>();
    count += elements.numel();
  }
  EXPECT_LE(lora_error, most * 2 * kGradientTolerance / kTiny);
  EXPECT_LE(any_error, most * 2);
  EXPECT_GE(static_cast<double>(compared), 0.1 * static_cast<double>(count));
  std::printf("    LoRA: %.0f%% of the elements compared\n",
              100.0 * static_cast<double>(compared) / static_cast<double>(count));
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
