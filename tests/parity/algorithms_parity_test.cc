// Compares the scheduler, guidance, tokenizer and the update's mathematics with recordings of
// diffusers, transformers, TRL and torch (see record_algorithms.py), and divergences with a direct
// computation (record_divergences.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/diffusion/ddim_scheduler.h"
#include "common/diffusion/gaussian_kl.h"
#include "common/diffusion/guidance.h"
#include "common/io/safetensors.h"
#include "common/text/tokenizer.h"
#include "tests/testing/temp_dir.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/global_advantages.h"
#include "trainer/algo/keyed_advantages.h"
#include "trainer/algo/ppo_loss.h"

namespace imageddpo {
namespace {

constexpr char kFolder[] = "tests/data/parity/algorithms";

// A recording was made on one processor; another one rounds otherwise, by u = 2^-24 = 6e-8 of a
// value at each operation.
//
// An element of alphas_cumprod is a product of up to 1,000 factors, each of which and each product
// of which is rounded: the root of 2,000 times u where roundings are independent, 2.7e-6. Zero
// terminal SNR takes such a product twice. The steps of the schedule differ by at least 5e-5.
constexpr double kAlphasTolerance = 5e-6;
// A step adds up three terms, each of some ten operations and up to four times as large as their
// sum, and takes roots of alphas_cumprod, which halves its relative error.
constexpr double kStepTolerance = 5e-6;

nlohmann::json ReadJson(const std::string& name) {
  std::ifstream file(std::string(kFolder) + "/" + name);
  return nlohmann::json::parse(file);
}

class AlgorithmsParity : public testing::Test {
 protected:
  void SetUp() override {
    auto file = SafetensorsFile::Open(std::string(kFolder) + "/reference.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    reference_ = *file;
  }

  at::Tensor Get(const std::string& name) const {
    absl::StatusOr<at::Tensor> tensor = reference_->Get(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return tensor.ok() ? *tensor : at::zeros({1});
  }

  /// |found - expected| <= tolerance · max(1, |expected|), for every element that the reference
  /// has. (At zero terminal SNR and eta 1 it takes the root of -1e-7, which is 0 but for rounding.)
  void ExpectClose(const std::string& name, const at::Tensor& found, double tolerance) {
    const at::Tensor expected = Get(name);
    ASSERT_EQ(found.sizes(), expected.sizes()) << name;
    EXPECT_TRUE(found.isfinite().all().item<bool>()) << name;
    const at::Tensor known = expected.isfinite();
    EXPECT_GE(known.to(at::kFloat).mean().item<double>(), 0.75) << name;
    const at::Tensor error = (found - expected).abs() / expected.abs().clamp_min(1);
    const double worst = at::where(known, error, at::zeros_like(error)).max().item().toDouble();
    EXPECT_LE(worst, tolerance) << name;
    worst_ = std::max(worst_, worst);
  }

  std::shared_ptr<const SafetensorsFile> reference_;
  double worst_ = 0;
};

TEST_F(AlgorithmsParity, SchedulerSteps) {
  const nlohmann::json facts = ReadJson("reference.json");
  double worst_next = 0;
  double worst_log_prob = 0;
  double worst_gradient = 0;
  ASSERT_EQ(facts["schedulers"].size(), 40u);
  for (const auto& [name, fact] : facts["schedulers"].items()) {
    const TempDir dir;
    dir.Write("scheduler_config.json", fact["config"].dump());
    const absl::StatusOr<DdimConfig> config = LoadDdimConfig(dir.path());
    ASSERT_TRUE(config.ok()) << config.status();
    const DdimScheduler scheduler(*config);
    ExpectClose(name + ".alphas_cumprod", scheduler.alphas_cumprod(), kAlphasTolerance);

    const bool no_signal =
        config->rescale_betas_zero_snr && config->prediction_type == PredictionType::kEpsilon;
    for (const auto& [num_steps, timesteps] : fact["schedules"].items()) {
      if (no_signal && timesteps[0] == 999) continue;  // Refused: see the unit tests.
      const absl::StatusOr<Schedule> schedule = scheduler.MakeSchedule(std::stoi(num_steps), 1.0);
      ASSERT_TRUE(schedule.ok()) << name << schedule.status();
      EXPECT_EQ(nlohmann::json(schedule->timesteps), timesteps) << name << " " << num_steps;
    }

    const at::Tensor timesteps =
        at::tensor(fact["timesteps"].get<std::vector<int64_t>>(), at::kLong);
    const auto num_steps = fact["num_steps"].get<int64_t>();
    ExpectClose(name + ".noised", scheduler.AddNoise(Get("sample"), Get("noise"), timesteps),
                kStepTolerance);
    for (const char* eta : {"1.0", "0.5", "0.0"}) {
      const std::string prefix = name + "." + eta;
      const at::Tensor output = Get("model_output").clone().requires_grad_();
      const auto sampled = scheduler.Step(output, timesteps, Get("sample"), num_steps,
                                          std::stod(eta), Get("noise"), {});
      worst_ = 0;
      ExpectClose(prefix + ".next", sampled.prev_sample_BCHW, kStepTolerance);
      worst_next = std::max(worst_next, worst_);
      worst_ = 0;
      ExpectClose(prefix + ".log_prob", sampled.log_prob_B.detach(), 1e-5);
      worst_log_prob = std::max(worst_log_prob, worst_);
      const auto replayed = scheduler.Step(output, timesteps, Get("sample"), num_steps,
                                           std::stod(eta), {}, sampled.prev_sample_BCHW);
      replayed.log_prob_B.sum().backward();
      worst_ = 0;
      ExpectClose(prefix + ".gradient", output.grad(), 1e-4);
      worst_gradient = std::max(worst_gradient, worst_);
    }
  }
  std::printf("    next %.1e, log-prob %.1e, gradient %.1e\n", worst_next, worst_log_prob,
              worst_gradient);
}

TEST_F(AlgorithmsParity, ExecutedStepsFollowFromTheStrength) {
  DdimConfig config;
  config.num_train_timesteps = 1000;
  const DdimScheduler scheduler(config);
  const nlohmann::json facts = ReadJson("reference.json");
  for (const auto& [num_steps, counts] : facts["executed_steps"].items()) {
    for (size_t percent = 0; percent <= 100; ++percent) {
      const absl::StatusOr<Schedule> schedule =
          scheduler.MakeSchedule(std::stoi(num_steps), static_cast<double>(percent) / 100);
      ASSERT_TRUE(schedule.ok());
      EXPECT_EQ(schedule->timesteps.size(), counts[percent]) << num_steps << " " << percent;
    }
  }
}

TEST_F(AlgorithmsParity, Guidance) {
  const at::Tensor outputs = at::cat({Get("guidance.negative"), Get("guidance.prompt")});
  const RowPredictor predict_rows = [&](const at::Tensor&, const at::Tensor&) { return outputs; };
  const int64_t batch = outputs.size(0) / 2;
  const auto predict = [&](double rescale) {
    return PredictGuided(predict_rows, at::zeros({batch, 4, 3, 3}), at::zeros({batch}, at::kLong),
                         std::vector<bool>(static_cast<size_t>(batch)), {7.5, rescale});
  };
  ExpectClose("guidance.guided", predict(0.0), 1e-6);
  ExpectClose("guidance.rescaled", predict(0.7), 1e-6);
}

TEST_F(AlgorithmsParity, Advantages) {
  const at::Tensor rewards_EN = Get("advantages.rewards");
  const at::Tensor ids_EN = Get("advantages.ids");
  KeyedAdvantages by_key({.stat_key = StatKey::kImage, .buffer_size = 16, .min_count = 16});
  std::vector<at::Tensor> per_key;
  std::vector<at::Tensor> global;
  for (int64_t epoch = 0; epoch < rewards_EN.size(0); ++epoch) {
    EpochRewards rewards;
    for (int64_t i = 0; i < rewards_EN.size(1); ++i) {
      rewards.rewards.push_back(rewards_EN[epoch][i].item<double>());
      rewards.image_ids.push_back(std::to_string(ids_EN[epoch][i].item<int64_t>()));
    }
    per_key.push_back(at::tensor(by_key.Advantages(rewards), at::kDouble));
    global.push_back(at::tensor(GlobalAdvantages().Advantages(rewards), at::kDouble));
  }
  ExpectClose("advantages.per_key", at::stack(per_key), 5e-6);
  ExpectClose("advantages.global", at::stack(global), 5e-6);
  std::printf("    max error %.1e\n", worst_);
}

/// The numbers of a list as float32, in which each of them was drawn.
at::Tensor Floats(const nlohmann::json& list) {
  return at::tensor(list.get<std::vector<float>>(), at::kFloat);
}

/// |found - expected| <= 1e-6 · max(1, |expected|), for each element.
void ExpectNumbers(const at::Tensor& found, const nlohmann::json& list, const std::string& what) {
  const at::Tensor expected = at::tensor(list.get<std::vector<double>>(), at::kDouble);
  const at::Tensor flat = found.detach().to(at::kDouble).reshape({-1});
  ASSERT_EQ(flat.numel(), expected.numel()) << what;
  const double worst = ((flat - expected).abs() / expected.abs().clamp_min(1)).max().item<double>();
  EXPECT_LE(worst, 1e-6) << what;
}

TEST_F(AlgorithmsParity, DivergencesOfSteps) {
  const nlohmann::json steps = ReadJson("divergences.json")["steps"];
  const auto shape = steps["shape"].get<std::vector<int64_t>>();
  const at::Tensor mean = Floats(steps["mean"]).view(shape).requires_grad_();
  const at::Tensor kl =
      GaussianKl(mean, Floats(steps["other"]).view(shape), Floats(steps["sigma"]));
  kl.sum().backward();
  ExpectNumbers(kl, steps["kl"], "kl");
  ExpectNumbers(mean.grad(), steps["gradient"], "gradient");
}

TEST_F(AlgorithmsParity, LossWithADivergenceMaskAndTheTermOfTheBase) {
  const nlohmann::json losses = ReadJson("divergences.json")["losses"];
  ASSERT_EQ(losses.size(), 2U);
  for (const nlohmann::json& expected : losses) {
    const auto age = expected["age"].get<int64_t>();
    const at::Tensor log_prob = Floats(expected["log_prob"]).requires_grad_();
    const at::Tensor to_base = Floats(expected["kl_to_base"]).requires_grad_();
    LossInputs inputs{.log_prob_B = log_prob, .recorded_log_prob_B = Floats(expected["recorded"])};
    if (age > 0) inputs.proximal_log_prob_B = Floats(expected["proximal"]);
    inputs.kl_to_recorded_B = Floats(expected["kl_to_recorded"]);
    inputs.kl_to_base_B = to_base;
    std::vector<float> is_kept;
    for (const auto& kept : expected["is_kept"]) is_kept.push_back(kept.get<bool>() ? 1 : 0);
    inputs.is_kept_B = at::tensor(is_kept).to(at::kBool);
    inputs.advantages_B = Floats(expected["advantages"]);
    inputs.age = age;
    const LossResult result = PpoLoss({.adv_clip_max = expected["adv_clip_max"],
                                       .staleness_weight_cap = expected["staleness_weight_cap"],
                                       .trust_region = TrustRegion::kKl,
                                       .kl_limit = expected["kl_limit"],
                                       .kl_coef = expected["kl_coef"]})
                                  .Loss(inputs);
    result.loss.backward();
    EXPECT_NEAR(result.loss.item<double>(), expected["loss"].get<double>(), 1e-6);
    EXPECT_NEAR(result.masked.item<double>(), expected["masked"].get<double>(), 1e-6);
    ExpectNumbers(log_prob.grad(), expected["gradient"], "gradient");
    ExpectNumbers(to_base.grad(), expected["base_gradient"], "gradient by the divergence");
  }
}

TEST_F(AlgorithmsParity, Loss) {
  const at::Tensor log_prob = Get("loss.new").clone().requires_grad_();
  const LossResult result =
      PpoLoss({.clip_range = {.low = 1e-4, .high = 1e-4}, .adv_clip_max = 5.0})
          .Loss({.log_prob_B = log_prob,
                 .recorded_log_prob_B = Get("loss.old"),
                 .advantages_B = Get("loss.advantages")});
  result.loss.backward();
  ExpectClose("loss.loss", result.loss.detach(), 1e-6);
  ExpectClose("loss.gradient", log_prob.grad(), 1e-6);
  // Exact on every processor: no ratio of the recording is as close to the bound as it is rounded.
  const at::Tensor ratio = (Get("loss.new") - Get("loss.old")).to(at::kDouble).exp();
  EXPECT_GE(((ratio - 1).abs() - 1e-4).abs().min().item<double>(), 5e-7);
  ExpectClose("loss.clipfrac", result.clipfrac, 1e-6);
  const double kl = Get("loss.approx_kl").item<double>();
  EXPECT_NEAR(result.approx_kl.item<double>(), kl, 1e-6 * kl);
}

TEST_F(AlgorithmsParity, ClippingAndAdamW) {
  std::vector<at::Tensor> params;
  for (int i = 0; i < 3; ++i) params.push_back(Get("adamw.before." + std::to_string(i)).clone());
  AdamW optimizer({"0", "1", "2"}, params, {.learning_rate = 3e-3});
  const at::Tensor norms = Get("adamw.norms");
  for (int step = 0; step < 6; ++step) {
    const auto name = [step](const char* what, int i) {
      return "adamw." + std::string(what) + "." + std::to_string(step) + "." + std::to_string(i);
    };
    std::vector<at::Tensor> grads;
    for (int i = 0; i < 3; ++i) grads.push_back(Get(name("grad", i)).clone());
    const double norm = norms[step].item<double>();
    EXPECT_NEAR(ClipGradNorm(grads, 1.0), norm, 1e-6 * norm);
    optimizer.Step(grads);
    for (int i = 0; i < 3; ++i) {
      ExpectClose(name("clipped", i), grads[i], 1e-7);
      ExpectClose(name("after", i), params[i], 1e-7);
    }
  }
  std::printf("    max error %.1e\n", worst_);
}

TEST_F(AlgorithmsParity, Tokens) {
  const nlohmann::json recorded = ReadJson("tokens.json");
  for (const auto& [folder, tokens] : recorded["tokens"].items()) {
    const auto tokenizer = ClipTokenizer::Load(std::string(kFolder) + "/tokenizers/" + folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ASSERT_GE(tokens.size(), 200u);
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto text = recorded["texts"][i].get<std::string>();
      EXPECT_EQ(nlohmann::json((*tokenizer)->Encode(text)), tokens[i]) << folder << ": " << text;
    }
  }
}

}  // namespace
}  // namespace imageddpo
