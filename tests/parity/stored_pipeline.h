#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "deploy/trace/trace.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {

/// The cases that record_pipeline.py stored: whole rollouts and updates of the original
/// implementation over the models in tests/data/parity/models.
class StoredPipeline {
 public:
  explicit StoredPipeline(const std::string& name) : name_(name) {
    std::ifstream file(std::string(kRoot) + "/cases.json");
    case_ = nlohmann::json::parse(file).at(name);
    const auto model = case_.at("model").get<std::string>();
    Link("unet", "tests/data/parity/models/" + model + "/unet");
    Link("vae", "tests/data/parity/models/" + model + "/vae");
    Link("text_encoder", "tests/data/parity/models/" + model + "/text_encoder");
    Link("tokenizer", std::string(kRoot) + "/tokenizer");
    Link("scheduler", std::string(kRoot) + "/scheduler-" + model);
  }

  std::string File(const std::string& file) const {
    return std::string(kRoot) + "/" + name_ + "/" + file;
  }
  std::string Output(const std::string& file) const { return work_ / file; }
  std::string model_path() const { return work_ / "model"; }

  TraceRolloutOptions Rollout() const {
    TraceRolloutOptions options;
    options.model = model_path();
    options.lora = File("lora.safetensors");
    options.inputs = File("inputs.safetensors");
    options.output = Output("trajectory.safetensors");
    options.policy = Policy();
    options.noise_strength = case_.at("noise_strength");
    options.prompt = case_.at("prompt");
    return options;
  }

  TraceUpdateOptions Update() const {
    TraceUpdateOptions options;
    options.model = model_path();
    options.lora = File("lora.safetensors");
    options.inputs = File("inputs.safetensors");
    options.trajectory = File("trajectory.safetensors");
    options.output_lora = Output("lora-after.safetensors");
    options.output = Output("update.safetensors");
    options.policy = Policy();
    options.max_grad_norm = case_.value("max_grad_norm", 1.0);
    options.train_batch_size = case_.value("train_batch_size", 2);
    options.gradient_accumulation_steps = case_.value("gradient_accumulation_steps", 1);
    options.num_inner_epochs = case_.value("num_inner_epochs", 1);
    return options;
  }

 private:
  static constexpr char kRoot[] = "tests/data/parity/pipeline";

  void Link(const std::string& name, const std::string& target) {
    namespace fs = std::filesystem;
    fs::create_directories(model_path());
    fs::create_directory_symlink(fs::absolute(target), fs::path(model_path()) / name);
  }

  TracePolicyOptions Policy() const {
    TracePolicyOptions policy;
    policy.num_steps = case_.at("num_steps");
    policy.guidance_scale = case_.at("guidance_scale");
    policy.guidance_rescale = case_.at("guidance_rescale");
    policy.eta = case_.at("eta");
    policy.num_threads = 1;  // As recorded.
    return policy;
  }

  std::string name_;
  nlohmann::json case_;
  TempDir work_;
};

}  // namespace imageddpo
