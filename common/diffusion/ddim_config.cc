#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/diffusion/ddim_scheduler.h"
#include "common/model_config/json_config.h"

namespace imageddpo {
namespace {

/// diffusers' discrete schedulers over the same beta schedule; a pipeline may swap one for another.
const std::vector<std::string>& ReadableClasses() {
  static const std::vector<std::string> classes = {
      "DDIMScheduler",
      "PNDMScheduler",
      "DDPMScheduler",
      "EulerDiscreteScheduler",
      "EulerAncestralDiscreteScheduler",
      "LMSDiscreteScheduler",
      "HeunDiscreteScheduler",
      "KDPM2DiscreteScheduler",
      "KDPM2AncestralDiscreteScheduler",
      "DPMSolverMultistepScheduler",
      "DPMSolverSinglestepScheduler",
      "DEISMultistepScheduler",
      "UniPCMultistepScheduler",
      "DPMSolverSDEScheduler",
      "DDIMParallelScheduler",
      "DDPMParallelScheduler",
  };
  return classes;
}

struct ForeignField {
  const char* name;
  const char* reason;
};

/// Fields that only describe the steps of another solver.
constexpr ForeignField kForeignFields[] = {
    {"skip_prk_steps", "PNDM's Runge-Kutta warm-up; DDIM has none"},
    {"interpolation_type", "Euler's sigmas between timesteps; DDIM has integer timesteps"},
    {"use_karras_sigmas", "another solver's spacing of sigmas; DDIM spaces timesteps"},
    {"use_exponential_sigmas", "another solver's spacing of sigmas; DDIM spaces timesteps"},
    {"use_beta_sigmas", "another solver's spacing of sigmas; DDIM spaces timesteps"},
    {"use_lu_lambdas", "another solver's spacing of sigmas; DDIM spaces timesteps"},
    {"sigma_min", "end of another solver's range of sigmas"},
    {"sigma_max", "end of another solver's range of sigmas"},
    {"final_sigmas_type", "another solver's last step; DDIM has set_alpha_to_one"},
    {"solver_order", "order of a multi-step solver; DDIM is of first order"},
    {"algorithm_type", "variant of DPM-Solver"},
    {"solver_type", "variant of a multi-step solver"},
    {"lower_order_final", "a multi-step solver's last steps"},
    {"euler_at_final", "a multi-step solver's last steps"},
    {"lambda_min_clipped", "range of DPM-Solver's lambdas"},
    {"predict_x0", "variant of UniPC"},
    {"disable_corrector", "variant of UniPC"},
    {"solver_p", "variant of UniPC"},
    {"dynamic_thresholding_threshold", "threshold of another solver"},
    {"noise_sampler_seed", "seed of another solver's noise"},
    {"tensor_format", "diffusers before 0.7 had other tensors than PyTorch's"},
};

std::string OneOf(JsonConfig& file, const std::string& key, const std::string& fallback,
                  const std::vector<std::string>& choices) {
  const std::string value = file.String(key, fallback);
  for (const std::string& choice : choices) {
    if (value == choice) return value;
  }
  std::string allowed;
  for (const std::string& choice : choices)
    absl::StrAppend(&allowed, allowed.empty() ? "" : ", ", choice);
  file.Refuse(key, absl::StrCat("must be one of ", allowed));
  return fallback;
}

std::vector<double> TrainedBetas(JsonConfig& file) {
  if (file.IsNull("trained_betas")) return {};
  const nlohmann::json& value = *file.Find("trained_betas");
  std::vector<double> betas;
  bool numbers = value.is_array() && !value.empty();
  for (size_t i = 0; numbers && i < value.size(); ++i) {
    numbers = value[i].is_number();
    if (numbers) betas.push_back(value[i].get<double>());
  }
  if (!numbers) file.Refuse("trained_betas", "must be null or a list of numbers");
  return betas;
}

/// Fields of other solvers: without effect here, or refused where they describe another noise
/// process than DDIM's.
void ReadForeignFields(JsonConfig& file, std::vector<std::string>* ignored) {
  const auto ignore = [&](const char* name, const char* reason) {
    ignored->push_back(absl::StrCat(name, " (", reason, ")"));
  };
  for (const ForeignField& field : kForeignFields) {
    if (!file.IsNull(field.name)) {
      file.Ignore({field.name});
      ignore(field.name, field.reason);
    }
  }
  if (!file.IsNull("variance_type")) {
    if (file.String("variance_type", "").starts_with("learned")) {
      file.Refuse("variance_type", "models that predict their variance are not supported");
    }
    ignore("variance_type", "DDIM's variance follows from eta");
  }
  OneOf(file, "timestep_type", "discrete", {"discrete"});
  file.Neutral("timestep_values");  // As the next, of diffusers before 0.11.
  file.Neutral("predict_epsilon", true);
  file.Neutral("use_flow_sigmas", false);
  file.Neutral("flow_shift", 1.0);
  file.Neutral("use_dynamic_shifting", false);
  file.Neutral("time_shift_type", "exponential");
}

/// What diffusers' Stable Diffusion pipelines make of a file that leaves these two out, as those
/// before 0.6 do: the models were trained with timesteps from 1 on, and their latents exceed 1.
/// What the file says counts, though the pipelines would change it too.
void ReadStepsAndClipping(JsonConfig& file, DdimConfig& config) {
  if (file.IsNull("steps_offset")) {
    config.steps_offset = 1;
    if (config.timestep_spacing == TimestepSpacing::kLeading)
      file.Warn("steps_offset", "taken as 1, as diffusers' Stable Diffusion pipelines do");
  } else {
    config.steps_offset = file.Int("steps_offset", 1, /*min=*/0);
    if (config.steps_offset != 1 && config.timestep_spacing == TimestepSpacing::kLeading) {
      file.Warn("steps_offset", "used as it stands, although Stable Diffusion was made with 1");
    }
  }
  if (file.IsNull("clip_sample")) {
    config.clip_sample = false;
    file.Warn("clip_sample", "taken as false, as diffusers' Stable Diffusion pipelines do");
  } else {
    config.clip_sample = file.Bool("clip_sample", false);
    if (config.clip_sample && !config.thresholding) {
      file.Warn("clip_sample",
                absl::StrCat("the predicted latents are clipped to ±", config.clip_sample_range,
                             " in every step, although those of Stable Diffusion go beyond; set it "
                             "to false unless the "
                             "model was made so"));
    }
  }
}

std::string Finite(const char* name, double value) {
  return std::isfinite(value) ? "" : absl::StrCat(name, " must be finite; ");
}

}  // namespace

absl::Status DdimConfig::Validate() const {
  std::string faults = Finite("beta_start", beta_start) + Finite("beta_end", beta_end);
  if (num_train_timesteps < 1) absl::StrAppend(&faults, "num_train_timesteps must be at least 1; ");
  if (steps_offset < 0) absl::StrAppend(&faults, "steps_offset must not be negative; ");
  if (trained_betas.empty()) {
    if (beta_schedule != "linear" && beta_schedule != "scaled_linear" &&
        beta_schedule != "squaredcos_cap_v2") {
      absl::StrAppend(&faults, "beta_schedule is \"", beta_schedule,
                      "\", it must be linear, scaled_linear or squaredcos_cap_v2; ");
    } else if (beta_schedule != "squaredcos_cap_v2" &&
               !(beta_start > 0 && beta_start < 1 && beta_end > 0 && beta_end < 1)) {
      absl::StrAppend(&faults, "beta_start and beta_end must lie in (0, 1); ");
    }
  } else {
    if (static_cast<int64_t>(trained_betas.size()) != num_train_timesteps) {
      absl::StrAppend(&faults, "trained_betas has ", trained_betas.size(),
                      " entries, num_train_timesteps is ", num_train_timesteps, "; ");
    }
    for (double beta : trained_betas) {
      if (beta > 0 && beta < 1) continue;
      absl::StrAppend(&faults, "every one of trained_betas must lie in (0, 1); ");
      break;
    }
  }
  if (thresholding) {
    if (!(dynamic_thresholding_ratio >= 0 && dynamic_thresholding_ratio <= 1)) {
      absl::StrAppend(&faults, "dynamic_thresholding_ratio must lie in [0, 1]; ");
    }
    if (!(sample_max_value >= 1)) absl::StrAppend(&faults, "sample_max_value must be at least 1; ");
  } else if (clip_sample && !(clip_sample_range > 0)) {
    absl::StrAppend(&faults, "clip_sample_range must be above 0; ");
  }
  if (faults.empty()) return absl::OkStatus();
  faults.resize(faults.size() - 2);
  return absl::InvalidArgumentError(faults);
}

absl::StatusOr<DdimConfig> LoadDdimConfig(const std::string& scheduler_dir,
                                          std::vector<std::string>* warnings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(
      JsonConfig file,
      JsonConfig::Open(scheduler_dir + "/scheduler_config.json", "_class_name", ReadableClasses()));
  DdimConfig config;
  // Their defaults are not Stable Diffusion's.
  file.RefuseNull({"beta_start", "beta_end", "beta_schedule", "num_train_timesteps"});
  config.num_train_timesteps = file.Int("num_train_timesteps", config.num_train_timesteps);
  config.beta_start = file.Double("beta_start", config.beta_start);
  config.beta_end = file.Double("beta_end", config.beta_end);
  config.trained_betas = TrainedBetas(file);
  config.beta_schedule = OneOf(file, "beta_schedule", config.beta_schedule,
                               {"linear", "scaled_linear", "squaredcos_cap_v2"});
  config.set_alpha_to_one = file.Bool("set_alpha_to_one", config.set_alpha_to_one);
  const std::string prediction =
      OneOf(file, "prediction_type", "epsilon", {"epsilon", "sample", "v_prediction"});
  config.prediction_type = prediction == "epsilon"  ? PredictionType::kEpsilon
                           : prediction == "sample" ? PredictionType::kSample
                                                    : PredictionType::kVPrediction;
  config.thresholding = file.Bool("thresholding", config.thresholding);
  config.dynamic_thresholding_ratio =
      file.Double("dynamic_thresholding_ratio", config.dynamic_thresholding_ratio);
  config.sample_max_value = file.Double("sample_max_value", config.sample_max_value);
  config.clip_sample_range = file.Double("clip_sample_range", config.clip_sample_range);
  const std::string spacing =
      OneOf(file, "timestep_spacing", "leading", {"leading", "trailing", "linspace"});
  config.timestep_spacing = spacing == "leading"    ? TimestepSpacing::kLeading
                            : spacing == "trailing" ? TimestepSpacing::kTrailing
                                                    : TimestepSpacing::kLinspace;
  config.rescale_betas_zero_snr =
      file.Bool("rescale_betas_zero_snr", config.rescale_betas_zero_snr);
  ReadStepsAndClipping(file, config);
  std::vector<std::string> ignored;
  ReadForeignFields(file, &ignored);
  IMAGEDDPO_RETURN_IF_ERROR(file.Finish(warnings));
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(config.Validate(), file.path()));
  if (warnings != nullptr && !ignored.empty()) {
    warnings->push_back(absl::StrCat(file.path(),
                                     ": read as DDIM's, for which these fields say "
                                     "nothing: ",
                                     absl::StrJoin(ignored, ", ")));
  }
  return config;
}

}  // namespace imageddpo
