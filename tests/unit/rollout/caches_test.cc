// Caches of encoded images and prompts: nothing is encoded twice, cached results have the same bits
// as fresh ones, and encoders are freed when they are no longer needed.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "rollout/sampler/sampler.h"
#include "rollout/worker/posterior_cache.h"
#include "rollout/worker/prompts.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

bool Equal(const Vae::Posterior& a, const Vae::Posterior& b) {
  return a.mean_BCHW.equal(b.mean_BCHW) && a.std_BCHW.equal(b.std_BCHW);
}

TEST(PosteriorCache, KeepsWhatFitsAndReturnsTheSameBitsEitherWay) {
  const Pipeline pipeline = LoadModel();
  at::manual_seed(3);
  const at::Tensor images = at::rand({4, 3, 16, 16});
  PosteriorCache alone(4, 0);
  const Vae::Posterior expected = alone.Encode(*pipeline.vae, {0, 1, 2, 3}, images, at::kCPU);
  const Vae::Posterior last = EncodeImages(*pipeline.vae, images.narrow(0, 3, 1));
  EXPECT_TRUE(expected.mean_BCHW.narrow(0, 3, 1).equal(last.mean_BCHW));  // Each by itself.
  const size_t one = (expected.mean_BCHW.nbytes() + expected.std_BCHW.nbytes()) / 4;
  for (const size_t budget : {size_t{0}, 2 * one, 10 * one}) {
    PosteriorCache cache(4, budget);
    EXPECT_TRUE(Equal(cache.Encode(*pipeline.vae, {0, 1, 2, 3}, images, at::kCPU), expected));
    EXPECT_TRUE(Equal(cache.Encode(*pipeline.vae, {0, 1, 2, 3}, images, at::kCPU), expected));
    EXPECT_EQ(cache.complete(), budget > 4 * one);
    // With other pixels only what is not cached changes: all, all but the first two, or nothing.
    const Vae::Posterior again =
        cache.Encode(*pipeline.vae, {3, 0}, at::zeros({2, 3, 16, 16}), at::kCPU);
    EXPECT_EQ(again.mean_BCHW[0].equal(expected.mean_BCHW[3]), budget > 4 * one);
    EXPECT_EQ(again.mean_BCHW[1].equal(expected.mean_BCHW[0]), budget > one);
  }
}

TEST(PromptCache, PromptsThatAreCutAreCountedInOneWarning) {
  const Pipeline pipeline = LoadModel();
  const std::string longer(100, '1'), long_enough(75, '1');
  EXPECT_TRUE(WarnOfCutPrompts(*pipeline.tokenizer, {"", "a shoe", long_enough}).empty());
  const auto warnings = WarnOfCutPrompts(*pipeline.tokenizer, {"a shoe", longer, longer + "2"});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].substr(0, 60),
            "2 prompts have more than the 75 tokens that the text encoder");
}

TEST(PromptCache, KnowsWhenNoTextEncoderIsNeeded) {
  Pipeline pipeline = LoadModel();
  const std::set<std::string> prompts = {"a shoe", "a shirt"};
  PromptCache unused(pipeline, "", {}, at::kCPU);
  EXPECT_FALSE(unused.complete());
  unused.Encode({"a shoe"}, /*use_prompts=*/false);
  EXPECT_TRUE(unused.complete());

  PromptCache small(pipeline, "", prompts, at::kCPU, /*budget_bytes=*/64);
  PromptCache cache(pipeline, "", prompts, at::kCPU);
  const auto first = cache.Encode({"a shoe"});
  EXPECT_FALSE(cache.complete());
  const auto both = cache.Encode({"a shirt", "a shoe"});
  EXPECT_TRUE(cache.complete());
  const auto uncached = small.Encode({"a shirt", "a shoe"});
  EXPECT_FALSE(small.complete());
  EXPECT_TRUE(both.conditioning.prompt_embeds_BLD.equal(uncached.conditioning.prompt_embeds_BLD));
  EXPECT_TRUE(
      both.conditioning.prompt_embeds_BLD[1].equal(first.conditioning.prompt_embeds_BLD[0]));
  EXPECT_EQ(both.keys.prompt_hashes, uncached.keys.prompt_hashes);
  pipeline.text_encoder.reset();
  const auto after = cache.Encode({"a shirt", "a shoe"});
  EXPECT_TRUE(after.conditioning.prompt_embeds_BLD.equal(both.conditioning.prompt_embeds_BLD));
}

using RolloutCachesTest = RolloutFixture;

TEST_F(RolloutCachesTest, WhatWasKeptGivesTheSameSamples) {
  Pipeline pipeline = LoadModel();
  const std::unique_ptr<Rollout> rollout = Make(&pipeline);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    for (int64_t m = 0; m < 2; ++m) {
      const int64_t next = m == 0 ? 1 : -1;  // Its images are loaded in advance.
      const auto kept = Scored(rollout->Sample(epoch, m, epoch, false, next));
      ASSERT_TRUE(kept.ok()) << kept.status();
      Pipeline other = LoadModel();
      const auto fresh = Scored(Make(&other)->Sample(epoch, m, epoch, false));
      ASSERT_TRUE(fresh.ok()) << fresh.status();
      EXPECT_TRUE(kept->latents.equal(fresh->latents));
      EXPECT_TRUE(kept->rewards_B.equal(fresh->rewards_B));
    }
  }
}

TEST_F(RolloutCachesTest, EncodersAreFreedOnceAllIsKept) {
  Pipeline pipeline = LoadModel();
  const std::unique_ptr<Rollout> rollout = Make(&pipeline, {.index = 1, .num_ranks = 2});
  ASSERT_TRUE(Scored(rollout->Sample(0, 0, 0, false)).ok());
  EXPECT_EQ(pipeline.text_encoder, nullptr);                  // One prompt, and the negative one.
  ASSERT_TRUE(Scored(rollout->Sample(0, 1, 0, false)).ok());  // Now all 6, but no held-out one.
  const at::Tensor image = at::zeros({1, 3, 32, 32});
  EXPECT_NO_THROW(pipeline.vae->Encode(image));
  const auto before = Scored(rollout->Evaluate(1, 0));  // The second batch is this rank's share.
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_THROW(pipeline.vae->Encode(image), std::logic_error);
  const auto after = Scored(rollout->Evaluate(1, 0));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->SerializeAsString(), before->SerializeAsString());
  ASSERT_TRUE(Scored(rollout->Sample(1, 0, 1, false)).ok());
}

}  // namespace
}  // namespace imageddpo
