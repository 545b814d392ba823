#include "common/diffusion/guidance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace imageddpo {
namespace {

constexpr int64_t kRows = 5;

/// A denoiser whose output depends on all of its inputs: latents + timestep/1000 + mean of the
/// embedding.
struct FakeDenoiser {
  std::vector<int64_t> batches;
  at::Tensor embeds;  ///< Of the rows.
  at::Tensor operator()(const at::Tensor& latents, const at::Tensor& timesteps) {
    batches.push_back(latents.size(0));
    EXPECT_EQ(timesteps.size(0), latents.size(0));
    EXPECT_EQ(embeds.size(0), latents.size(0));
    const at::Tensor shift = timesteps.to(at::kFloat) / 1000 + embeds.mean(at::IntArrayRef{1, 2});
    return latents * (1 + embeds.select(1, 0).select(1, 0)).view({-1, 1, 1, 1}) +
           shift.view({-1, 1, 1, 1});
  }
};

class GuidanceTest : public testing::Test {
 protected:
  at::Tensor latents_ = at::randn({kRows, 4, 3, 3});
  at::Tensor timesteps_ = at::tensor({1, 100, 300, 500, 900}, at::kLong);
  at::Tensor prompt_ = at::randn({kRows, 2, 6});
  at::Tensor negative_ = at::randn({kRows, 2, 6});

  at::Tensor Branch(const at::Tensor& embeds) {
    return FakeDenoiser{.embeds = embeds}(latents_, timesteps_);
  }
  at::Tensor Predict(FakeDenoiser& denoiser, const std::vector<bool>& same,
                     const Guidance& guidance) {
    denoiser.embeds = EmbedRows(prompt_, negative_, same, guidance);
    return PredictGuided(std::ref(denoiser), latents_, timesteps_, same, guidance);
  }
};

TEST_F(GuidanceTest, ScaleUpToOneIsOnePassOfTheNegativeEmbedding) {
  for (double scale : {0.0, 0.5, 1.0}) {
    FakeDenoiser denoiser{.embeds = EmbedRows({}, negative_, {}, {scale, 0.7})};
    const at::Tensor found =
        PredictGuided(std::ref(denoiser), latents_, timesteps_, {}, {scale, 0.7});
    EXPECT_TRUE(at::equal(found, Branch(negative_)));
    EXPECT_EQ(denoiser.batches, std::vector<int64_t>{kRows});
  }
}

TEST_F(GuidanceTest, TwoBranchesGoThroughAsOneBatch) {
  FakeDenoiser denoiser;
  const std::vector<bool> same(kRows, false);
  const at::Tensor found = Predict(denoiser, same, {7.5, 0.0});
  const at::Tensor negative = Branch(negative_);
  EXPECT_TRUE(at::allclose(found, negative + 7.5 * (Branch(prompt_) - negative), 1e-5, 1e-5));
  EXPECT_EQ(denoiser.batches, std::vector<int64_t>{2 * kRows});
  EXPECT_EQ(PassesOf(same, {7.5, 0.0}), 2 * kRows);
}

TEST_F(GuidanceTest, EqualTokensTakeOnePass) {
  FakeDenoiser denoiser;
  const at::Tensor found = Predict(denoiser, std::vector<bool>(kRows, true), {7.5, 0.7});
  EXPECT_TRUE(at::equal(found, Branch(negative_)));
  EXPECT_EQ(denoiser.batches, std::vector<int64_t>{kRows});
}

TEST_F(GuidanceTest, MixedBatchesAreDecidedPerSampleAndKeepTheirOrder) {
  const std::vector<bool> same = {false, true, true, false, true};
  const Guidance guidance{3.0, 0.4};
  FakeDenoiser all;
  const at::Tensor guided = Predict(all, std::vector<bool>(kRows, false), guidance);
  const at::Tensor negative = Branch(negative_);
  FakeDenoiser denoiser;
  const at::Tensor found = Predict(denoiser, same, guidance);
  EXPECT_EQ(denoiser.batches, std::vector<int64_t>{7});
  EXPECT_EQ(PassesOf(same, guidance), 7);
  for (int64_t b = 0; b < kRows; ++b) {
    EXPECT_TRUE(at::allclose(found[b], same[b] ? negative[b] : guided[b], 1e-6, 1e-6)) << b;
  }
}

TEST_F(GuidanceTest, RescaleRestoresThePromptBranchsDeviation) {
  FakeDenoiser denoiser;
  const at::Tensor found = Predict(denoiser, std::vector<bool>(kRows, false), {7.5, 1.0});
  const at::Tensor prompt = Branch(prompt_);
  EXPECT_TRUE(at::allclose(found.flatten(1).std(1), prompt.flatten(1).std(1), 1e-4, 1e-5));
}

TEST_F(GuidanceTest, GradientsReachBothBranches) {
  prompt_.requires_grad_();
  negative_.requires_grad_();
  FakeDenoiser denoiser;
  Predict(denoiser, {false, true, false, true, true}, {2.0, 0.5}).sum().backward();
  EXPECT_GT(prompt_.grad()[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(prompt_.grad()[1].abs().sum().item<double>(), 0);
  for (int64_t b = 0; b < kRows; ++b) {
    EXPECT_GT(negative_.grad()[b].abs().sum().item<double>(), 0) << b;
  }
}

TEST_F(GuidanceTest, HalfPrecisionOutputsAreWidened) {
  const RowPredictor denoiser = [](const at::Tensor& latents, const at::Tensor&) {
    return latents.to(at::kBFloat16);
  };
  for (double scale : {1.0, 2.0}) {
    const at::Tensor found = PredictGuided(denoiser, latents_, timesteps_,
                                           std::vector<bool>(kRows, false), {scale, 0.0});
    EXPECT_EQ(found.scalar_type(), at::kFloat);
  }
}

TEST_F(GuidanceTest, RefusesBatchesThatDiffer) {
  FakeDenoiser denoiser;
  EXPECT_THROW(Predict(denoiser, {true}, {2.0, 0.0}), std::invalid_argument);
  const std::vector<bool> same(kRows, false);
  prompt_ = prompt_.slice(0, 1);
  EXPECT_THROW(Predict(denoiser, same, {2.0, 0.0}), std::invalid_argument);
  timesteps_ = timesteps_.slice(0, 1);
  EXPECT_THROW(PredictGuided(std::ref(denoiser), latents_, timesteps_, {}, {1.0, 0.0}),
               std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
