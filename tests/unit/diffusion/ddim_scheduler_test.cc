#include "common/diffusion/ddim_scheduler.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace imageddpo {
namespace {

DdimConfig StableDiffusion() {
  DdimConfig config;
  config.beta_start = 0.00085;
  config.beta_end = 0.012;
  config.beta_schedule = "scaled_linear";
  config.clip_sample = false;
  config.set_alpha_to_one = false;
  config.steps_offset = 1;
  return config;
}

TEST(MakeSchedule, StartsWhereTheNoiseStrengthSays) {
  const DdimScheduler scheduler(StableDiffusion());
  const absl::StatusOr<Schedule> half = scheduler.MakeSchedule(10, 0.5);
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ(half->timesteps, (std::vector<int64_t>{401, 301, 201, 101, 1}));
  EXPECT_EQ(half->start_index, 5);
  EXPECT_EQ(half->num_steps, 10);
  EXPECT_EQ(scheduler.MakeSchedule(10, 1.0)->timesteps.size(), 10u);
  EXPECT_EQ(scheduler.MakeSchedule(10, 0.0)->timesteps, (std::vector<int64_t>{1}));
  // 50·(1 - 0.9) is 4.99… in double, because 0.9 rounds up there; in float it would be 5.
  EXPECT_EQ(scheduler.MakeSchedule(50, 0.9)->start_index, 4);
}

TEST(MakeSchedule, RefusesWhatCannotBeRun) {
  const DdimScheduler scheduler(StableDiffusion());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(scheduler.MakeSchedule(0, 0.5).ok());
  EXPECT_FALSE(scheduler.MakeSchedule(1001, 0.5).ok());
  EXPECT_FALSE(scheduler.MakeSchedule(10, -0.1).ok());
  EXPECT_FALSE(scheduler.MakeSchedule(10, 1.1).ok());
  EXPECT_FALSE(scheduler.MakeSchedule(10, nan).ok());
  // 1000 steps with an offset of 1 would begin at timestep 1000, one past the last.
  EXPECT_FALSE(scheduler.MakeSchedule(1000, 1.0).ok());
  EXPECT_TRUE(scheduler.MakeSchedule(1000, 0.5).ok());

  DdimConfig no_signal = StableDiffusion();
  no_signal.rescale_betas_zero_snr = true;
  no_signal.timestep_spacing = TimestepSpacing::kTrailing;
  EXPECT_FALSE(DdimScheduler(no_signal).MakeSchedule(10, 1.0).ok());
  EXPECT_TRUE(DdimScheduler(no_signal).MakeSchedule(10, 0.8).ok());
  no_signal.prediction_type = PredictionType::kVPrediction;
  EXPECT_TRUE(DdimScheduler(no_signal).MakeSchedule(10, 1.0).ok());
}

TEST(MakeSchedule, TrailingHasTheNumberOfStepsAskedFor) {
  DdimConfig config = StableDiffusion();
  config.timestep_spacing = TimestepSpacing::kTrailing;
  const DdimScheduler scheduler(config);
  for (int64_t num_steps = 1; num_steps <= 1000; ++num_steps) {
    const absl::StatusOr<Schedule> schedule = scheduler.MakeSchedule(num_steps, 1.0);
    ASSERT_TRUE(schedule.ok()) << num_steps << schedule.status();
    EXPECT_EQ(static_cast<int64_t>(schedule->timesteps.size()), num_steps);
    EXPECT_EQ(schedule->timesteps.front(), 999);
    EXPECT_GE(schedule->timesteps.back(), 0);
  }
}

TEST(PredictionTarget, IsWhatThePredictionTypeSays) {
  at::manual_seed(3);
  const at::Tensor x0 = at::randn({2, 4, 3, 5}), noise = at::randn({2, 4, 3, 5});
  const at::Tensor timesteps = at::tensor({401, 1}, at::kLong);
  const auto target = [&](PredictionType type) {
    DdimConfig config = StableDiffusion();
    config.prediction_type = type;
    return DdimScheduler(config).PredictionTarget(x0, noise, timesteps);
  };
  EXPECT_TRUE(target(PredictionType::kEpsilon).equal(noise));
  EXPECT_TRUE(target(PredictionType::kSample).equal(x0));
  const at::Tensor v = target(PredictionType::kVPrediction);
  for (int64_t i = 0; i < 2; ++i) {
    double alpha = 1;
    for (int64_t t = 0; t <= timesteps[i].item<int64_t>(); ++t) {
      const double root = std::sqrt(0.00085) +
                          (std::sqrt(0.012) - std::sqrt(0.00085)) * static_cast<double>(t) / 999;
      alpha *= 1 - root * root;
    }
    const at::Tensor expected =
        std::sqrt(alpha) * noise[i].to(at::kDouble) - std::sqrt(1 - alpha) * x0[i].to(at::kDouble);
    EXPECT_LT((v[i].to(at::kDouble) - expected).abs().max().item<double>(), 1e-5) << i;
  }
}

TEST(CheckEta, RefusesWhatTeachesNothing) {
  const DdimScheduler scheduler(StableDiffusion());
  const Schedule schedule = *scheduler.MakeSchedule(10, 0.5);
  EXPECT_TRUE(scheduler.CheckEta(schedule, 1.0).ok());
  EXPECT_TRUE(scheduler.CheckEta(schedule, 0.5).ok());
  EXPECT_FALSE(scheduler.CheckEta(schedule, 0.0).ok());
  EXPECT_FALSE(scheduler.CheckEta(schedule, -1.0).ok());
  EXPECT_FALSE(scheduler.CheckEta(schedule, std::numeric_limits<double>::infinity()).ok());
  const absl::Status too_large = scheduler.CheckEta(schedule, 1.5);
  ASSERT_FALSE(too_large.ok());
  EXPECT_NE(std::string(too_large.message()).find("timestep"), std::string::npos) << too_large;

  DdimConfig ends_at_one = StableDiffusion();
  ends_at_one.set_alpha_to_one = true;  // The last step then has no variance.
  const DdimScheduler other(ends_at_one);
  EXPECT_FALSE(other.CheckEta(*other.MakeSchedule(10, 0.1), 1.0).ok());
  EXPECT_TRUE(other.CheckEta(*other.MakeSchedule(10, 0.2), 1.0).ok());
}

class StepTest : public testing::Test {
 protected:
  at::Tensor sample_ = at::randn({4, 4, 3, 3});
  at::Tensor output_ = at::randn({4, 4, 3, 3});
  at::Tensor noise_ = at::randn({4, 4, 3, 3});
  at::Tensor timesteps_ = at::tensor({901, 501, 201, 1}, at::kLong);
};

TEST_F(StepTest, ReplayRepeatsTheRolloutsLogProbBitForBit) {
  for (PredictionType type :
       {PredictionType::kEpsilon, PredictionType::kSample, PredictionType::kVPrediction}) {
    DdimConfig config = StableDiffusion();
    config.prediction_type = type;
    const DdimScheduler scheduler(config);
    const auto sampled = scheduler.Step(output_, timesteps_, sample_, 10, 1.0, noise_, {});
    const at::Tensor leaf = output_.clone().requires_grad_();
    const auto replayed =
        scheduler.Step(leaf, timesteps_, sample_, 10, 1.0, {}, sampled.prev_sample_BCHW);
    EXPECT_TRUE(at::equal(replayed.log_prob_B, sampled.log_prob_B));
    EXPECT_TRUE(at::equal(replayed.prev_sample_BCHW, sampled.prev_sample_BCHW));
    EXPECT_TRUE(sampled.stochastic_B.all().item<bool>());
    EXPECT_FALSE(sampled.prev_sample_BCHW.requires_grad());
    replayed.log_prob_B.sum().backward();
    EXPECT_TRUE(leaf.grad().isfinite().all().item<bool>());
  }
}

TEST_F(StepTest, LogProbIsTheNormalDensity) {
  const DdimScheduler scheduler(StableDiffusion());
  const double eta = 0.7;
  const auto step = scheduler.Step(output_, timesteps_, sample_, 10, eta, noise_, {});
  const at::Tensor alphas = scheduler.alphas_cumprod().to(at::kDouble);
  for (int64_t b = 0; b < 3; ++b) {
    const int64_t t = timesteps_[b].item<int64_t>();
    const double a_t = alphas[t].item<double>();
    const double a_prev = alphas[t - 100].item<double>();
    const double sigma = eta * std::sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev));
    // prev = mean + sigma·noise, so the density is that of the noise, scaled.
    const double z2 = noise_[b].to(at::kDouble).pow(2).mean().item<double>();
    const double expected = -z2 / 2 - std::log(sigma) - 0.5 * std::log(2 * M_PI);
    EXPECT_NEAR(step.log_prob_B[b].item<double>(), expected, 2e-4) << t;
  }
}

TEST_F(StepTest, DeterministicSamplesAreJudgedOneByOne) {
  DdimConfig config = StableDiffusion();
  config.set_alpha_to_one = true;  // Timestep 1 steps to abar 1: no variance.
  const DdimScheduler scheduler(config);
  const at::Tensor leaf = output_.clone().requires_grad_();
  const auto step = scheduler.Step(leaf, timesteps_, sample_, 10, 1.0, noise_, {});
  EXPECT_TRUE(at::equal(step.stochastic_B, at::tensor({1, 1, 1, 0}, at::kInt).to(at::kBool)));
  EXPECT_EQ(step.log_prob_B[3].item<float>(), 0.0F);
  step.log_prob_B.sum().backward();
  EXPECT_TRUE(leaf.grad().isfinite().all().item<bool>());
  EXPECT_EQ(leaf.grad()[3].abs().max().item<float>(), 0.0F);
  EXPECT_GT(leaf.grad()[0].abs().max().item<float>(), 0.0F);
  // The same step without noise gives the same latents.
  const auto still = scheduler.Step(output_, timesteps_, sample_, 10, 1.0, noise_ * 0, {});
  EXPECT_TRUE(at::equal(still.prev_sample_BCHW[3], step.prev_sample_BCHW[3]));
}

TEST_F(StepTest, TellsTheGaussianItDrawsFrom) {
  DdimConfig config = StableDiffusion();
  config.set_alpha_to_one = true;
  const at::Tensor leaf = output_.clone().requires_grad_();
  const StepResult step =
      DdimScheduler(config).Step(leaf, timesteps_, sample_, 10, 0.7, noise_, {});
  EXPECT_TRUE(step.mean_BCHW.requires_grad());
  EXPECT_TRUE(at::equal(step.sigma_B > 0, step.stochastic_B));
  const at::Tensor next_BCHW = step.mean_BCHW + step.sigma_B.view({-1, 1, 1, 1}) * noise_;
  EXPECT_TRUE(at::equal(next_BCHW, step.prev_sample_BCHW));
}

TEST_F(StepTest, EtaZeroHasNoGradientAndDoesNotCrash) {
  const DdimScheduler scheduler(StableDiffusion());
  const at::Tensor leaf = output_.clone().requires_grad_();
  const auto step = scheduler.Step(leaf, timesteps_, sample_, 10, 0.0, noise_, {});
  EXPECT_FALSE(step.stochastic_B.any().item<bool>());
  EXPECT_TRUE(at::equal(step.log_prob_B, at::zeros({4})));
  step.log_prob_B.sum().backward();
  EXPECT_EQ(leaf.grad().abs().max().item<float>(), 0.0F);
}

TEST_F(StepTest, ASampleDoesNotDependOnItsNeighbours) {
  const DdimScheduler scheduler(StableDiffusion());
  const auto all = scheduler.Step(output_, timesteps_, sample_, 10, 1.0, noise_, {});
  for (int64_t b = 0; b < 4; ++b) {
    const auto one = [b](const at::Tensor& x) { return x.narrow(0, b, 1); };
    const auto step =
        scheduler.Step(one(output_), one(timesteps_), one(sample_), 10, 1.0, one(noise_), {});
    EXPECT_TRUE(at::equal(step.prev_sample_BCHW[0], all.prev_sample_BCHW[b]));
  }
}

TEST_F(StepTest, MemoryLayoutDoesNotShow) {
  const DdimScheduler scheduler(StableDiffusion());
  const auto plain = scheduler.Step(output_, timesteps_, sample_, 10, 1.0, noise_, {});
  const auto other = [](const at::Tensor& x) { return x.to(at::MemoryFormat::ChannelsLast); };
  const auto sampled =
      scheduler.Step(other(output_), timesteps_, other(sample_), 10, 1.0, other(noise_), {});
  EXPECT_TRUE(sampled.prev_sample_BCHW.is_contiguous());
  EXPECT_TRUE(at::equal(sampled.log_prob_B, plain.log_prob_B));
  const auto replayed = scheduler.Step(output_, timesteps_, other(sample_), 10, 1.0, {},
                                       other(plain.prev_sample_BCHW));
  EXPECT_TRUE(at::equal(replayed.log_prob_B, plain.log_prob_B));
}

TEST_F(StepTest, RefusesBadCalls) {
  const DdimScheduler scheduler(StableDiffusion());
  const auto step = [&](const at::Tensor& timesteps, int64_t num_steps, const at::Tensor& noise,
                        const at::Tensor& prev) {
    scheduler.Step(output_, timesteps, sample_, num_steps, 1.0, noise, prev);
  };
  EXPECT_THROW(step(timesteps_, 10, {}, {}), std::invalid_argument);
  EXPECT_THROW(step(timesteps_, 10, noise_, noise_), std::invalid_argument);
  EXPECT_THROW(step(timesteps_, 0, noise_, {}), std::invalid_argument);
  EXPECT_THROW(step(timesteps_, 2000, noise_, {}), std::invalid_argument);
  EXPECT_THROW(step(timesteps_.slice(0, 1), 10, noise_, {}), std::invalid_argument);
  EXPECT_THROW(step(timesteps_, 10, noise_.slice(0, 1), {}), std::invalid_argument);
  DdimConfig bad;
  bad.num_train_timesteps = 0;
  EXPECT_THROW(DdimScheduler{bad}, std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
