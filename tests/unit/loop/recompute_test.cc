// device.gradient_checkpointing: the same bits as without, in less memory.
#include "common/nn/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "common/model_config/model_count.h"
#include "common/model_config/unet_config.h"
#include "tests/unit/loop/small_policy.h"
#include "trainer/algo/ppo_loss.h"

namespace imageddpo {
namespace {

class RecomputeTest : public testing::TestWithParam<SmallPolicyCase> {
 protected:
  SmallPolicy kept_{GetParam()}, recomputed_{GetParam(), /*recompute=*/true};
};

TEST_P(RecomputeTest, ReplayHasTheSameBits) {
  const SampledTrajectories sampled = recomputed_.Sample(nullptr);
  EXPECT_TRUE(sampled.latents_BKCHW.equal(kept_.Sample(nullptr).latents_BKCHW));
  const ReplayBatch batch = kept_.Batch(sampled);
  const PpoLoss loss;
  ReplayUpdate with(*recomputed_.policy, recomputed_.lora.Parameters(), loss);
  ReplayUpdate without(*kept_.policy, kept_.lora.Parameters(), loss);
  const std::vector<StepStatistics> steps = StatisticsOf(with.Accumulate(batch, 0.25)),
                                    expected = StatisticsOf(without.Accumulate(batch, 0.25));
  ASSERT_EQ(steps.size(), expected.size());
  for (size_t k = 0; k < steps.size(); ++k) {
    EXPECT_EQ(steps[k].ratio_max_error, 0);
    EXPECT_EQ(steps[k].loss, expected[k].loss);
  }
  const at::Tensor gradient_P = with.TakeGradient();
  EXPECT_GT(gradient_P.norm().item<double>(), 0);
  EXPECT_TRUE(gradient_P.equal(without.TakeGradient()));
}

TEST_P(RecomputeTest, SinglePassHasTheSameBits) {
  std::unique_ptr<LogProbGradients> without = kept_.Collector(), with = recomputed_.Collector();
  const SampledTrajectories expected = kept_.Sample(without.get());
  const SampledTrajectories sampled = recomputed_.Sample(with.get());
  EXPECT_TRUE(sampled.latents_BKCHW.equal(expected.latents_BKCHW));
  EXPECT_TRUE(sampled.log_probs_BK.equal(expected.log_probs_BK));
  const at::Tensor gradients_BP = with->Take();
  EXPECT_GT(gradients_BP.norm().item<double>(), 0);
  EXPECT_TRUE(gradients_BP.equal(without->Take()));
  for (const at::Tensor& parameter : recomputed_.lora.Parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RecomputeTest,
    testing::Values(
        SmallPolicyCase{.name = "sd1_plain", .model = "sd1-plain"},
        SmallPolicyCase{.name = "sd1_guided", .model = "sd1-guided", .guidance = 7.5},
        SmallPolicyCase{
            .name = "sd2_rescaled", .model = "sd2-rescaled", .guidance = 7.5, .rescale = 0.7},
        SmallPolicyCase{.name = "demo_every_linear_layer",
                        .model = "demo",
                        .target_modules = {"to_q", "to_k", "to_v", "to_out.0", "linear_1",
                                           "linear_2", "time_emb_proj", "proj", "net.2"}},
        SmallPolicyCase{
            .name = "demo_the_last_layers", .model = "demo", .target_modules = {"net.2"}},
        SmallPolicyCase{.name = "demo_bf16", .model = "demo", .dtype = at::kBFloat16}),
    [](const auto& info) { return info.param.name; });

/// Counts what libtorch allocates on the CPU.
class CountingAllocator : public at::Allocator {
 public:
  /// Replaces libtorch's allocator for the rest of the process, because blocks may outlive a test.
  static CountingAllocator& Install() {
    static auto* const allocator = new CountingAllocator();
    return *allocator;
  }

  at::DataPtr allocate(size_t size) override {
    void* const data = base_->raw_allocate(size);
    const std::lock_guard<std::mutex> lock(mutex_);
    sizes_[data] = static_cast<int64_t>(size);
    live_ += static_cast<int64_t>(size);
    peak_ = std::max(peak_, live_);
    return {data, data, &Free, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

  int64_t live() const { return live_; }
  /// The most that was live since the last call, beyond what was at it.
  int64_t TakePeak() {
    const int64_t rise = peak_ - start_;
    start_ = peak_ = live_;
    return rise;
  }

 private:
  CountingAllocator() : base_(c10::GetCPUAllocator()) {
    constexpr uint8_t kPriority = 100;
    c10::SetCPUAllocator(this, kPriority);
  }

  static void Free(void* data) {
    if (data == nullptr) return;  // An allocation of nothing.
    CountingAllocator& self = Install();
    {
      const std::lock_guard<std::mutex> lock(self.mutex_);
      const auto found = self.sizes_.find(data);
      self.live_ -= found->second;
      self.sizes_.erase(found);
    }
    self.base_->raw_deallocate(data);
  }

  at::Allocator* base_;
  std::mutex mutex_;
  std::unordered_map<void*, int64_t> sizes_;
  int64_t live_ = 0, peak_ = 0, start_ = 0;
};

/// Bytes at the peak of one replayed step, and between its forward and its backward pass.
struct StepMemory {
  int64_t peak = 0, kept = 0;
};

StepMemory MeasureStep(CountingAllocator* allocator, SmallPolicy* small) {
  const int64_t batch = SmallPolicy::kBatch;
  const at::Tensor latents_BCHW = small->inputs.init_noise_BCHW;
  const at::Tensor timesteps_B = at::full({batch}, small->schedule.timesteps.front(), at::kLong);
  const StepConditioning conditioning = small->policy->Prepare(small->inputs.conditioning);
  const auto run = [&] {
    StepMemory memory;
    const int64_t before = allocator->live();
    allocator->TakePeak();
    const at::Tensor log_prob_B =
        small->policy->Replay(latents_BCHW, timesteps_B, conditioning, latents_BCHW).log_prob_B;
    memory.kept = allocator->live() - before;
    log_prob_B.sum().backward();
    memory.peak = allocator->TakePeak();
    return memory;
  };
  run();  // The gradients themselves, and whatever kernels keep.
  return run();
}

TEST(RecomputeMemory, PeakOfAStepFalls) {
  const SmallPolicyCase demo{.name = "demo", .model = "demo"};
  constexpr int64_t kSide = 32, kTokens = 5;
  CountingAllocator& allocator = CountingAllocator::Install();
  StepMemory kept, recomputed;
  UnetConfig config;
  {
    SmallPolicy small(demo, /*recompute=*/false, kSide);
    config = *UnetConfig::Load("deploy/demo/tiny-sd/unet/config.json");
    kept = MeasureStep(&allocator, &small);
  }
  {
    SmallPolicy small(demo, /*recompute=*/true, kSide);
    recomputed = MeasureStep(&allocator, &small);
  }
  std::printf("    a step keeps %.1f MB and peaks at %.1f; recomputed %.1f and %.1f\n",
              1e-6 * static_cast<double>(kept.kept), 1e-6 * static_cast<double>(kept.peak),
              1e-6 * static_cast<double>(recomputed.kept),
              1e-6 * static_cast<double>(recomputed.peak));
  EXPECT_LT(recomputed.kept, 0.15 * static_cast<double>(kept.kept));
  EXPECT_LT(recomputed.peak, 0.6 * static_cast<double>(kept.peak));

  // What the planner, and so the automatic micro-batch, takes it to be.
  const PassCount count = CountUnet(config, {kSide, kSide}, kTokens, {});
  const double row_bytes = sizeof(float) * SmallPolicy::kBatch;
  std::printf("    predicted %.1f, recomputed %.1f\n", 1e-6 * row_bytes * count.saved_values,
              1e-6 * row_bytes * count.recomputed_values);
  EXPECT_NEAR(row_bytes * count.saved_values / static_cast<double>(kept.peak), 1, 0.4);
  EXPECT_NEAR(row_bytes * count.recomputed_values / static_cast<double>(recomputed.peak), 1, 0.4);
}

TEST(Recompute, GoesThroughPartsWhoseInputsNeedNoGradient) {
  const at::Tensor weight = at::full({2}, 3.0).requires_grad_(true);
  const at::Tensor x = at::tensor({1.0F, 2.0F});
  int runs = 0;
  const Recomputed part = Recompute(
      [&](const std::vector<at::Tensor>& inputs) {
        ++runs;
        return inputs[0] * weight;
      },
      {x});
  EXPECT_TRUE(part.output.requires_grad());
  EXPECT_FALSE(part.first_input.requires_grad());
  EXPECT_EQ(runs, 1);
  part.output.sum().backward();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(weight.grad().equal(x));
}

TEST(Recompute, ChainsAndForks) {
  const at::Tensor x = at::tensor({1.0F, 2.0F}).requires_grad_(true);
  const auto square = [](const std::vector<at::Tensor>& inputs) { return inputs[0] * inputs[0]; };
  const Recomputed first = Recompute(square, {x * 1});
  const Recomputed second = Recompute(square, {first.output});
  (second.output + second.first_input + first.first_input).sum().backward();
  EXPECT_TRUE(x.grad().equal(4 * x.detach().pow(3) + 2 * x.detach() + 1)) << x.grad();
}

TEST(Recompute, ErrorsComeOutOfTheBackwardPass) {
  const at::Tensor x = at::ones({2}).requires_grad_(true);
  int runs = 0;
  const Recomputed part = Recompute(
      [&](const std::vector<at::Tensor>& inputs) {
        if (++runs > 1) throw std::bad_alloc();
        return inputs[0] * 2;
      },
      {x});
  EXPECT_THROW(part.output.sum().backward(), std::bad_alloc);
}

}  // namespace
}  // namespace imageddpo
