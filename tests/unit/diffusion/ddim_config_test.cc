#include <gtest/gtest.h>

#include <string>

#include "common/diffusion/ddim_scheduler.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

absl::StatusOr<DdimConfig> Load(const std::string& json) {
  const TempDir dir;
  dir.Write("scheduler_config.json", json);
  return LoadDdimConfig(dir.path());
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
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.20.0", "num_train_timesteps": 100,
    "beta_start": 0.001, "beta_end": 0.1, "beta_schedule": "scaled_linear", "trained_betas": null,
    "set_alpha_to_one": false, "steps_offset": 1, "prediction_type": "v_prediction",
    "thresholding": true, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0,
    "clip_sample": false, "clip_sample_range": 3.0, "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": true})");
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
  EXPECT_TRUE(config->ignored_fields.empty());
}

TEST(LoadDdimConfig, AbsentFieldsHaveDdimsDefaults) {
  const absl::StatusOr<DdimConfig> config = Load(R"({"_class_name": "DDIMScheduler"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_train_timesteps, 1000);
  EXPECT_EQ(config->beta_start, 0.0001);
  EXPECT_EQ(config->beta_end, 0.02);
  EXPECT_EQ(config->beta_schedule, "linear");
  EXPECT_TRUE(config->set_alpha_to_one);
  EXPECT_EQ(config->steps_offset, 0);
  EXPECT_EQ(config->prediction_type, PredictionType::kEpsilon);
  EXPECT_FALSE(config->thresholding);
  EXPECT_TRUE(config->clip_sample);
  EXPECT_EQ(config->timestep_spacing, TimestepSpacing::kLeading);
}

TEST(LoadDdimConfig, ReadsTheFileThatStableDiffusionShips) {
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
    "clip_sample": false})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->beta_schedule, "scaled_linear");
  EXPECT_FALSE(config->clip_sample);
  ASSERT_EQ(config->ignored_fields.size(), 1u);
  EXPECT_EQ(config->ignored_fields[0].name, "skip_prk_steps");
  EXPECT_FALSE(config->ignored_fields[0].reason.empty());
}

TEST(LoadDdimConfig, ReadsDpmSolversInfinity) {  // As Python writes it, which is not JSON.
  const absl::StatusOr<DdimConfig> config = Load(R"({
    "_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "algorithm_type": "dpmsolver++", "solver_order": 2, "variance_type": null,
    "use_flow_sigmas": false, "flow_shift": 1.0, "final_sigmas_type": "zero"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->beta_end, 0.012);
  EXPECT_EQ(config->ignored_fields.size(), 5u);
}

TEST(LoadDdimConfig, RefusesByName) {
  ExpectRefused(R"({"_class_name": "FlowMatchEulerDiscreteScheduler"})", "FlowMatchEuler");
  ExpectRefused(R"({"_class_name": "LCMScheduler"})", "LCMScheduler");
  ExpectRefused(R"({"colour": 1})", "colour");
  ExpectRefused(R"({"beta_schedule": "sigmoid"})", "beta_schedule");
  ExpectRefused(R"({"beta_start": "small"})", "beta_start");
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
