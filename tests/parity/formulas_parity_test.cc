// Compares the formulas of docs/algorithm.md and docs/learning.md that no other package has with a
// direct computation in Python: see record_formulas.py.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/config/job_config.h"
#include "common/diffusion/ddim_scheduler.h"
#include "common/learning/learning.h"
#include "common/learning/series_statistics.h"
#include "common/trajectory/schedule/step_schedule.h"
#include "tests/testing/judged.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/group_advantages.h"
#include "trainer/algo/learning_rate.h"
#include "trainer/algo/per_reward_advantages.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/algo/reward_combination.h"
#include "trainer/algo/weight_average.h"
#include "trainer/guards/gradient_guard.h"

namespace imageddpo {
namespace {

using Values = std::vector<double>;

class FormulasParity : public testing::Test {
 protected:
  static nlohmann::json Recorded(const std::string& formula) {
    std::ifstream file("tests/data/parity/algorithms/formulas.json");
    return nlohmann::json::parse(file).at(formula);
  }

  static Values Reals(const nlohmann::json& list) { return list.get<Values>(); }

  /// As float32, in which the numbers were drawn.
  static at::Tensor Floats(const nlohmann::json& list) {
    return at::tensor(list.get<std::vector<float>>(), at::kFloat);
  }

  static Values ValuesOf(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.detach().to(at::kDouble).contiguous().view({-1});
    const auto* begin = flat.const_data_ptr<double>();
    return {begin, begin + flat.numel()};
  }

  /// |found - expected| <= 1e-6 · max(1, |expected|), for each number.
  static void ExpectClose(const Values& found, const nlohmann::json& list,
                          const std::string& what) {
    const Values expected = Reals(list);
    ASSERT_EQ(found.size(), expected.size()) << what;
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 1e-6 * std::max(1.0, std::abs(expected[i])))
          << what << " " << i;
    }
  }
};

TEST_F(FormulasParity, AdvantagesOfGroups) {
  const nlohmann::json group = Recorded("group");
  const EpochRewards epoch{.rewards = Reals(group["rewards"]),
                           .groups = group["groups"].get<std::vector<int64_t>>()};
  ASSERT_EQ(group["cases"].size(), 6U);
  for (const nlohmann::json& expected : group["cases"]) {
    const auto std_of = expected["std_of"].get<std::string>();
    const bool leave_one_out = expected["leave_one_out"];
    GroupAdvantages rule({.mode = AdvantageMode::kGroup,
                          .std_of = *FindChoice(kStdsOf, std_of),
                          .leave_one_out = leave_one_out});
    ExpectClose(rule.Advantages(epoch), expected["advantages"],
                std_of + (leave_one_out ? ", leave one out" : ""));
  }
}

TEST_F(FormulasParity, AdvantagesOfEachReward) {
  const nlohmann::json recorded = Recorded("per_reward");
  EpochRewards epoch{.rewards = Values(12),
                     .groups = recorded["groups"].get<std::vector<int64_t>>()};
  for (const nlohmann::json& term : recorded["terms"]) {
    epoch.terms.push_back({.name = term["name"].get<std::string>(),
                           .weight = term["weight"].get<double>(),
                           .values = Reals(term["values"])});
  }
  for (const auto& [mode, name] :
       {std::pair(AdvantageMode::kGlobal, "global"), std::pair(AdvantageMode::kGroup, "group")}) {
    PerRewardAdvantages rule({.mode = mode, .combine = Combination::kPerReward});
    ExpectClose(rule.Advantages(epoch), recorded[name], name);
  }
}

TEST_F(FormulasParity, RewardsThatAreNormalisedAndWarmUp) {
  RewardCombination combination(
      Judged(*ParseJobYaml("rewards:\n"
                           "- {type: l1, weight: 1.5, normalize: true}\n"
                           "- {type: l2, weight: -2, warmup_epochs: 3}\n"
                           "- {type: psnr, weight: 4, normalize: true, warmup_epochs: 2}\n",
                           "job.yaml")));
  const nlohmann::json epochs = Recorded("combination");
  for (size_t e = 0; e < epochs.size(); ++e) {
    EpochRewards rewards;
    combination.Combine(static_cast<int64_t>(e), epochs[e]["values"].get<std::vector<Values>>(),
                        &rewards);
    ExpectClose(rewards.rewards, epochs[e]["rewards"], "epoch " + std::to_string(e));
  }
}

TEST_F(FormulasParity, ValuesOfMeasures) {
  const nlohmann::json recorded = Recorded("values");
  for (const nlohmann::json& expected : recorded["cases"]) {
    RewardConfig reward;
    reward.offset = expected["offset"];
    reward.scale = expected["scale"];
    reward.clamp = expected["clamp"];
    Values values;
    for (const double measured : Reals(recorded["measured"])) {
      values.push_back(reward.ValueOf(measured));
    }
    ExpectClose(values, expected["values"], "clamp " + expected["clamp"].dump());
  }
}

TEST_F(FormulasParity, LearningRates) {
  for (const nlohmann::json& expected : Recorded("learning_rates")) {
    const LearningRateSettings settings{
        .kind = *FindChoice(kLearningRates, expected["kind"].get<std::string>()),
        .peak = expected["peak"],
        .warmup_updates = expected["warmup"],
        .total_updates = expected["total"],
        .min_ratio = expected["min_ratio"]};
    Values rates;
    for (int64_t update = 0; update < settings.total_updates; ++update) {
      rates.push_back(LearningRateOf(update, settings) / settings.peak);
    }
    nlohmann::json of_peak;  // Rates are small; 1e-6 is meant of the peak.
    for (const double rate : Reals(expected["rates"])) of_peak.push_back(rate / settings.peak);
    ExpectClose(rates, of_peak, expected["kind"].get<std::string>());
  }
}

TEST_F(FormulasParity, TheMovingAverage) {
  const nlohmann::json recorded = Recorded("average");
  WeightAverage average(recorded["decay"].get<double>(), recorded["warmup"].get<int64_t>(),
                        Floats(recorded["values"].front()));
  for (size_t update = 0; update < recorded["values"].size(); ++update) {
    if (update > 0) {
      average.Update(Floats(recorded["values"][update]), static_cast<int64_t>(update));
    }
    ExpectClose(ValuesOf(average.values()), recorded["averages"][update],
                "after update " + std::to_string(update));
  }
}

TEST_F(FormulasParity, WeightDecayToTheInitialLora) {
  const nlohmann::json recorded = Recorded("adamw");
  const at::Tensor weights = Floats(recorded["start"]);
  AdamW optimizer({"w"}, {weights},
                  {.learning_rate = recorded["learning_rate"].get<double>(),
                   .beta1 = recorded["beta1"].get<double>(),
                   .beta2 = recorded["beta2"].get<double>(),
                   .weight_decay = recorded["weight_decay"].get<double>()});
  optimizer.DecayTowards({weights.clone()});
  for (size_t step = 0; step < recorded["gradients"].size(); ++step) {
    optimizer.Step({Floats(recorded["gradients"][step])});
    ExpectClose(ValuesOf(weights), recorded["after"][step],
                "after step " + std::to_string(step + 1));
  }
}

TEST_F(FormulasParity, GradientSpikes) {
  const nlohmann::json recorded = Recorded("spikes");
  GradientGuard guard(recorded["zscore"].get<double>());
  const Values norms = Reals(recorded["norms"]);
  int skipped = 0;
  for (size_t i = 0; i < norms.size(); ++i) {
    const bool is_accepted = recorded["accepted"][i];
    EXPECT_EQ(guard.Judge(norms[i]), is_accepted) << i;
    skipped += is_accepted ? 0 : 1;
  }
  EXPECT_EQ(skipped, 3 + GradientGuard::kMostInARow) << "three alone, then a rise that lasts";
}

TEST_F(FormulasParity, LossesOfFreshAndStaleSamples) {
  const nlohmann::json losses = Recorded("losses");
  ASSERT_EQ(losses.size(), 6U);
  for (const nlohmann::json& expected : losses) {
    const auto age = expected["age"].get<int64_t>();
    const at::Tensor log_prob = Floats(expected["log_prob"]).requires_grad_();
    LossInputs inputs{.log_prob_B = log_prob,
                      .recorded_log_prob_B = Floats(expected["recorded"]),
                      .advantages_B = Floats(expected["advantages"]),
                      .age = age};
    if (age > 0) inputs.proximal_log_prob_B = Floats(expected["proximal"]);
    const PpoLoss rule({.clip_range = {.low = expected["low"], .high = expected["high"]},
                        .adv_clip_max = expected["adv_clip_max"],
                        .staleness_weight_cap = expected["staleness_weight_cap"]});
    const LossResult result = rule.Loss(inputs);
    result.loss.backward();
    const std::string what = "age " + std::to_string(age) + ", low " + expected["low"].dump();
    EXPECT_NEAR(result.loss.item<double>(), expected["loss"].get<double>(), 1e-6) << what;
    EXPECT_NEAR(result.approx_kl.item<double>(), expected["approx_kl"].get<double>(), 1e-6) << what;
    EXPECT_NEAR(result.clipped_high.item<double>(), expected["clipped_high"].get<double>(), 1e-6)
        << what;
    EXPECT_NEAR(result.clipped_low.item<double>(), expected["clipped_low"].get<double>(), 1e-6)
        << what;
    ExpectClose(ValuesOf(log_prob.grad()), expected["gradient"], what);
    ExpectClose(rule.LossAtSampling(inputs.advantages_B).derivative_B, expected["at_sampling"],
                what);
  }
}

TEST_F(FormulasParity, TrainedSteps) {
  const nlohmann::json steps = Recorded("steps");
  for (const nlohmann::json& expected : steps["windows"]) {
    const StepWindow window{.size = expected["size"],
                            .start = expected["start"],
                            .stride = expected["stride"],
                            .every_epochs = expected["every_epochs"]};
    const StepSchedule schedule(
        {.executed = expected["executed"], .trained = window.size, .window = window}, 7);
    for (size_t epoch = 0; epoch < expected["begins"].size(); ++epoch) {
      const std::vector<int64_t> trained = schedule.Of(static_cast<int64_t>(epoch), 0).trained;
      ASSERT_EQ(static_cast<int64_t>(trained.size()), window.size);
      EXPECT_EQ(trained.front(), expected["begins"][epoch].get<int64_t>()) << expected << epoch;
      EXPECT_EQ(trained.back(), trained.front() + window.size - 1);
    }
  }
  for (const nlohmann::json& expected : steps["shares"]) {
    const std::string yaml =
        "sample: {noise_strength: 1, num_steps: " + expected["executed"].dump() +
        "}\ntrain: {step_fraction: " + expected["fraction"].dump() + "}\n";
    const ResolvedJob job = Judged(*ParseJobYaml(yaml, "job.yaml"));
    ASSERT_EQ(job.steps().executed, expected["executed"].get<int64_t>()) << yaml;
    EXPECT_EQ(job.steps().trained, expected["trained"].get<int64_t>()) << yaml;
    EXPECT_EQ(StepSchedule(job.steps(), 7).Of(3, 0).trained.size(),
              expected["trained"].get<size_t>())
        << yaml;
  }
}

TEST_F(FormulasParity, NoisyLatentsAndWhatIsPredictedOfThem) {
  const nlohmann::json recorded = Recorded("targets");
  const auto rows = static_cast<int64_t>(recorded["timesteps"].size());
  const auto latents = [&](const char* name) {
    return Floats(recorded[name]).view({rows, 1, 1, recorded["size"].get<int64_t>()});
  };
  const at::Tensor timesteps =
      at::tensor(recorded["timesteps"].get<std::vector<int64_t>>(), at::kLong);
  const auto scheduler = [](PredictionType type) {
    DdimConfig config;
    config.beta_start = 0.00085;
    config.beta_end = 0.012;
    config.beta_schedule = "scaled_linear";
    config.prediction_type = type;
    return DdimScheduler(config);
  };
  const auto target = [&](PredictionType type) {
    return ValuesOf(
        scheduler(type).PredictionTarget(latents("latents"), latents("noise"), timesteps));
  };
  ExpectClose(ValuesOf(scheduler(PredictionType::kEpsilon)
                           .AddNoise(latents("latents"), latents("noise"), timesteps)),
              recorded["noisy"], "noisy");
  ExpectClose(target(PredictionType::kEpsilon), recorded["noise"], "epsilon");
  ExpectClose(target(PredictionType::kSample), recorded["latents"], "sample");
  ExpectClose(target(PredictionType::kVPrediction), recorded["velocity"], "v_prediction");
}

TEST_F(FormulasParity, AFallFromTheBest) {
  int fallen = 0;
  for (const nlohmann::json& expected : Recorded("falls")) {
    const std::optional<Fall> fall = FallOf(Reals(expected["rewards"]), 4);
    ASSERT_EQ(fall.has_value(), expected["has_fallen"].get<bool>());
    if (!fall) continue;
    ++fallen;
    ExpectClose({fall->first, fall->best, fall->last, fall->errors},
                {expected["first"], expected["best"], expected["last"], expected["errors"]},
                "of " + std::to_string(expected["rewards"].size()) + " epochs");
    EXPECT_EQ(fall->epoch, expected["epoch"].get<int64_t>());
  }
  EXPECT_EQ(fallen, 2);
}

TEST_F(FormulasParity, TheStandardErrorOfAChange) {
  for (const nlohmann::json& expected : Recorded("changes")) {
    const Values rewards = Reals(expected["rewards"]);
    const Change change = ChangeOf(rewards);
    EXPECT_EQ(change.window, expected["window"].get<size_t>());
    ExpectClose({change.first, change.last, change.error},
                {expected["first"], expected["last"], expected["error"]},
                std::to_string(rewards.size()) + " epochs");
  }
}

}  // namespace
}  // namespace imageddpo
