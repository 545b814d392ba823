#include "tests/testing/pipeline_case.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr char kParity[] = "tests/data/parity";

nlohmann::json ReadCases(const std::string& root) {
  const fs::path path = fs::path(root) / kParity / "pipeline/cases.json";
  std::ifstream file(path);
  const nlohmann::json cases = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!cases.is_object()) throw std::runtime_error(path.string() + " is missing or damaged");
  return cases;
}

}  // namespace

std::vector<std::string> PipelineCase::Names(const std::string& root) {
  std::vector<std::string> names;
  const nlohmann::json cases = ReadCases(root);
  for (const auto& [name, unused] : cases.items()) names.push_back(name);
  return names;
}

PipelineCase::PipelineCase(const std::string& root, const std::string& name,
                           const std::string& work)
    : work_(work) {
  const nlohmann::json cases = ReadCases(root);
  if (!cases.contains(name)) throw std::runtime_error("there is no stored pipeline " + name);
  case_ = cases.at(name);
  const std::string parity = (fs::absolute(root) / kParity).string();
  folder_ = parity + "/pipeline/" + name;
  const auto model = case_.at("model").get<std::string>();
  const std::string models = absl::StrCat(parity, "/models/", model, "/");
  for (const char* part : {"unet", "vae", "text_encoder"}) {
    Link(part, absl::StrCat(models, part));
  }
  Link("tokenizer", parity + "/pipeline/tokenizer");
  Link("scheduler", parity + "/pipeline/scheduler-" + model);
}

std::string PipelineCase::File(const std::string& file) const { return folder_ + "/" + file; }

bool PipelineCase::has_update() const { return fs::exists(File("update.safetensors")); }

void PipelineCase::Link(const std::string& name, const std::string& target) const {
  fs::create_directories(model_path());
  fs::create_directory_symlink(target, fs::path(model_path()) / name);
}

TraceRolloutOptions PipelineCase::Rollout() const {
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

TraceUpdateOptions PipelineCase::Update() const {
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

TracePolicyOptions PipelineCase::Policy() const {
  TracePolicyOptions policy;
  policy.num_steps = case_.at("num_steps");
  policy.guidance_scale = case_.at("guidance_scale");
  policy.guidance_rescale = case_.at("guidance_rescale");
  policy.eta = case_.at("eta");
  policy.num_threads = 1;  // As recorded.
  return policy;
}

}  // namespace imageddpo
