#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/diffusion/ddim_scheduler.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

absl::StatusOr<DdimConfig> Load(const std::string& json,
                                std::vector<std::string>* warnings = nullptr) {
  const TempDir dir;
  dir.Write("scheduler_config.json", json);
  return LoadDdimConfig(dir.path(), warnings);
}

void ExpectRefused(const std::string& json, const std::string& field) {
  const absl::StatusOr<DdimConfig> config = Load(json);
  ASSERT_FALSE(config.ok()) << json;
  EXPECT_NE(std::string(config.status().message()).find("scheduler_config.json"), std::string::npos)
      << config.status();
  EXPECT_NE(std::string(config.status().message()).find(field), std::string::npos)
      << config.status();
}

TEST(LoadDdimConfig, ReadsEveryField) {
  std::vector<std::string> warnings;
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.20.0", "num_train_timesteps": 100,
    "beta_start": 0.001, "beta_end": 0.1, "beta_schedule": "scaled_linear", "trained_betas": null,
    "set_alpha_to_one": false, "steps_offset": 1, "prediction_type": "v_prediction",
    "thresholding": true, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0,
    "clip_sample": false, "clip_sample_range": 3.0, "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": true})",
                                                 &warnings);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_train_timesteps, 100);
  EXPECT_EQ(config->beta_start, 0.001);
  EXPECT_EQ(config->beta_end, 0.1);
  EXPECT_EQ(config->beta_schedule, "scaled_linear");
  EXPECT_FALSE(config->set_alpha_to_one);
  EXPECT_EQ(config->steps_offset, 1);
  EXPECT_EQ(config->prediction_type, PredictionType::kVPrediction);
  EXPECT_TRUE(config->thresholding);
  EXPECT_EQ(config->dynamic_thresholding_ratio, 0.9);
  EXPECT_EQ(config->sample_max_value, 2.0);
  EXPECT_FALSE(config->clip_sample);
  EXPECT_EQ(config->clip_sample_range, 3.0);
  EXPECT_EQ(config->timestep_spacing, TimestepSpacing::kTrailing);
  EXPECT_TRUE(config->rescale_betas_zero_snr);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(LoadDdimConfig, AbsentFieldsHaveDdimsDefaults) {
  const absl::StatusOr<DdimConfig> config = Load(R"({"_class_name": "DDIMScheduler"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_train_timesteps, 1000);
  EXPECT_EQ(config->beta_start, 0.0001);
  EXPECT_EQ(config->beta_end, 0.02);
  EXPECT_EQ(config->beta_schedule, "linear");
  EXPECT_TRUE(config->set_alpha_to_one);
  EXPECT_EQ(config->prediction_type, PredictionType::kEpsilon);
  EXPECT_FALSE(config->thresholding);
  EXPECT_EQ(config->timestep_spacing, TimestepSpacing::kLeading);
}

TEST(LoadDdimConfig, StepsAndClippingThatAreLeftOutAreStableDiffusions) {
  for (const char* fields : {"", R"(, "clip_sample": null, "steps_offset": null)"}) {
    for (const char* name : {"DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"}) {
      std::vector<std::string> warnings;
      const auto config =
          Load(std::string(R"({"_class_name": ")") + name + "\"" + fields + "}", &warnings);
      ASSERT_TRUE(config.ok()) << config.status();
      EXPECT_EQ(config->steps_offset, 1);
      EXPECT_FALSE(config->clip_sample);
      EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("steps_offset"), HasSubstr("taken as 1")),
                                        AllOf(HasSubstr("clip_sample"), HasSubstr("as false"))));
    }
  }
}

TEST(LoadDdimConfig, StepsAndClippingCountAsTheyStand) {
  std::vector<std::string> warnings;
  const auto config =
      Load(R"({"clip_sample": true, "steps_offset": 0, "clip_sample_range": 2.0})", &warnings);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->steps_offset, 0);
  EXPECT_TRUE(config->clip_sample);
  EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("steps_offset = 0"), HasSubstr("made with 1")),
                                    AllOf(HasSubstr("clip_sample = true"), HasSubstr("±2"))));
  warnings.clear();
  EXPECT_TRUE(Load(R"({"clip_sample": false, "steps_offset": 0, "timestep_spacing": "trailing"})",
                   &warnings)
                  .ok());
  EXPECT_THAT(warnings, IsEmpty()) << "no other spacing has an offset";
}

TEST(LoadDdimConfig, ReadsTheFileThatStableDiffusionShips) {
  std::vector<std::string> warnings;
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
    "clip_sample": false})",
                                                 &warnings);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->beta_schedule, "scaled_linear");
  EXPECT_FALSE(config->clip_sample);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("skip_prk_steps (")));
}

TEST(LoadDdimConfig, ReadsDpmSolversInfinity) {  // As Python writes it, which is not JSON.
  std::vector<std::string> warnings;
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "clip_sample": false, "steps_offset": 1,
    "_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "algorithm_type": "dpmsolver++", "solver_order": 2, "variance_type": null,
    "use_flow_sigmas": false, "flow_shift": 1.0, "final_sigmas_type": "zero"})",
                                                 &warnings);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->beta_end, 0.012);
  EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("algorithm_type"), HasSubstr("solver_order"),
                                          HasSubstr("final_sigmas_type"))));
}

TEST(LoadDdimConfig, RefusesByName) {
  ExpectRefused(R"({"_class_name": "FlowMatchEulerDiscreteScheduler"})", "FlowMatchEuler");
  ExpectRefused(R"({"_class_name": "LCMScheduler"})", "LCMScheduler");
  ExpectRefused(R"({"colour": 1})", "colour");
  ExpectRefused(R"({"beta_schedule": "sigmoid"})", "beta_schedule");
  ExpectRefused(R"({"beta_start": "small"})", "beta_start");
  ExpectRefused(R"({"beta_schedule": null})", "beta_schedule");
  ExpectRefused(R"({"set_alpha_to_one": null})", "set_alpha_to_one");
  ExpectRefused(R"({"predict_epsilon": false})", "predict_epsilon");
  ExpectRefused(R"({"beta_end": 1.5})", "beta_end");
  ExpectRefused(R"({"prediction_type": "flow_prediction"})", "prediction_type");
  ExpectRefused(R"({"timestep_spacing": "log"})", "timestep_spacing");
  ExpectRefused(R"({"num_train_timesteps": 0})", "num_train_timesteps");
  ExpectRefused(R"({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2]})", "trained_betas");
  ExpectRefused(R"({"num_train_timesteps": 2, "trained_betas": [0.1, "x"]})", "trained_betas");
  ExpectRefused(R"({"num_train_timesteps": 2, "trained_betas": [0.1, 1.0]})", "trained_betas");
  ExpectRefused(R"({"thresholding": true, "dynamic_thresholding_ratio": 1.1})",
                "dynamic_thresholding_ratio");
  ExpectRefused(R"({"thresholding": true, "sample_max_value": 0.5})", "sample_max_value");
  ExpectRefused(R"({"clip_sample": true, "clip_sample_range": 0})", "clip_sample_range");
  ExpectRefused(R"({"_class_name": "DDPMScheduler", "variance_type": "learned_range"})",
                "variance_type");
  ExpectRefused(R"({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"})",
                "timestep_type");
  ExpectRefused(R"({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true})",
                "use_flow_sigmas");
  ExpectRefused("{", "JSON");
}

TEST(LoadDdimConfig, MissingFileIsNotFound) {
  const TempDir dir;
  const absl::StatusOr<DdimConfig> config = LoadDdimConfig(dir.path());
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(config.status().message()).find("scheduler_config.json"),
            std::string::npos);
}

}  // namespace
}  // namespace imageddpo
