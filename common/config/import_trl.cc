#include "common/config/import_trl.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/suggest.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/config/yaml/yaml_source.h"

namespace imageddpo {
namespace {

constexpr int kMaxProcesses = 65536;

/// The settings of DDPOConfig (TRL 0.21) that matter here, with its defaults.
struct DdpoConfig {
  std::string exp_name, run_name;
  int64_t seed = 0;
  int64_t num_epochs = 100;
  int64_t save_freq = 1;
  int64_t num_checkpoint_limit = 5;
  std::string mixed_precision;  // fp16 there; but where the file does not ask for it, fp32.
  bool allow_tf32 = false;      // True there; but where the file does not ask for it, nobody did.
  std::string resume_from;
  int64_t sample_num_steps = 50;
  double sample_eta = 1.0;
  double sample_guidance_scale = 5.0;
  int64_t sample_batch_size = 1;
  int64_t sample_num_batches_per_epoch = 2;
  int64_t train_batch_size = 1;
  bool train_use_8bit_adam = false;
  double train_learning_rate = 3e-4;
  double train_adam_beta1 = 0.9;
  double train_adam_beta2 = 0.999;
  double train_adam_weight_decay = 1e-4;
  double train_adam_epsilon = 1e-8;
  int64_t train_gradient_accumulation_steps = 1;
  double train_max_grad_norm = 1.0;
  int64_t train_num_inner_epochs = 1;
  bool train_cfg = true;
  double train_adv_clip_max = 5.0;
  double train_clip_range = 1e-4;
  double train_timestep_fraction = 1.0;
  bool per_prompt_stat_tracking = false;
  int64_t per_prompt_stat_tracking_buffer_size = 16;
  int64_t per_prompt_stat_tracking_min_count = 16;
  std::string negative_prompts;
};

// Settings that are about logging, the hub or the machine; they have no effect on what is computed.
const std::set<std::string>& IgnoredSettings() {
  static const std::set<std::string> settings = {
      "log_with",       "tracker_kwargs",       "accelerator_kwargs",
      "project_kwargs", "tracker_project_name", "logdir",
      "max_workers",    "push_to_hub",          "async_reward_computation"};
  return settings;
}

struct Field {
  std::string expected;
  std::function<bool(const YAML::Node&)> read;  ///< False: of another type.
};

template <typename T, typename Read>
Field MakeField(const char* expected, T* target, Read read) {
  return {expected, [=](const YAML::Node& node) {
            const auto value = read(node);
            if (value) *target = *value;
            return value.has_value();
          }};
}

std::map<std::string, Field> Fields(DdpoConfig* config) {
  const auto whole = [](int64_t* target) { return MakeField("a whole number", target, YamlInt64); };
  const auto real = [](double* target) { return MakeField("a number", target, YamlDouble); };
  const auto yes_no = [](bool* target) { return MakeField("true or false", target, YamlBool); };
  const auto text = [](std::string* target) {
    return MakeField("text", target, [](const YAML::Node& node) {
      return IsYamlNull(node) ? std::optional<std::string>("") : YamlText(node);
    });
  };
  return {
      {"exp_name", text(&config->exp_name)},
      {"run_name", text(&config->run_name)},
      {"seed", whole(&config->seed)},
      {"num_epochs", whole(&config->num_epochs)},
      {"save_freq", whole(&config->save_freq)},
      {"num_checkpoint_limit", whole(&config->num_checkpoint_limit)},
      {"mixed_precision", text(&config->mixed_precision)},
      {"allow_tf32", yes_no(&config->allow_tf32)},
      {"resume_from", text(&config->resume_from)},
      {"sample_num_steps", whole(&config->sample_num_steps)},
      {"sample_eta", real(&config->sample_eta)},
      {"sample_guidance_scale", real(&config->sample_guidance_scale)},
      {"sample_batch_size", whole(&config->sample_batch_size)},
      {"sample_num_batches_per_epoch", whole(&config->sample_num_batches_per_epoch)},
      {"train_batch_size", whole(&config->train_batch_size)},
      {"train_use_8bit_adam", yes_no(&config->train_use_8bit_adam)},
      {"train_learning_rate", real(&config->train_learning_rate)},
      {"train_adam_beta1", real(&config->train_adam_beta1)},
      {"train_adam_beta2", real(&config->train_adam_beta2)},
      {"train_adam_weight_decay", real(&config->train_adam_weight_decay)},
      {"train_adam_epsilon", real(&config->train_adam_epsilon)},
      {"train_gradient_accumulation_steps", whole(&config->train_gradient_accumulation_steps)},
      {"train_max_grad_norm", real(&config->train_max_grad_norm)},
      {"train_num_inner_epochs", whole(&config->train_num_inner_epochs)},
      {"train_cfg", yes_no(&config->train_cfg)},
      {"train_adv_clip_max", real(&config->train_adv_clip_max)},
      {"train_clip_range", real(&config->train_clip_range)},
      {"train_timestep_fraction", real(&config->train_timestep_fraction)},
      {"per_prompt_stat_tracking", yes_no(&config->per_prompt_stat_tracking)},
      {"per_prompt_stat_tracking_buffer_size",
       whole(&config->per_prompt_stat_tracking_buffer_size)},
      {"per_prompt_stat_tracking_min_count", whole(&config->per_prompt_stat_tracking_min_count)},
      {"negative_prompts", text(&config->negative_prompts)},
  };
}

// A job's name from free text.
std::string NameFrom(const DdpoConfig& config) {
  std::string name = config.run_name.empty() ? config.exp_name : config.run_name;
  for (char& c : name) {
    const bool is_allowed =
        absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
    if (!is_allowed) c = '-';
  }
  return name.empty() ? "imported" : name.substr(0, 64);
}

v1::JobSpec ToJob(const DdpoConfig& config, int processes) {
  v1::JobSpec job;
  job.set_name(NameFrom(config));
  job.set_seed(static_cast<uint64_t>(std::max<int64_t>(config.seed, 0)));
  job.set_num_epochs(config.num_epochs);
  job.mutable_checkpoint()->set_every_epochs(config.save_freq);
  job.mutable_checkpoint()->set_keep(config.num_checkpoint_limit);
  v1::SampleSpec* sample = job.mutable_sample();
  sample->set_num_steps(config.sample_num_steps);
  sample->set_guidance_scale(config.sample_guidance_scale);
  sample->set_eta(config.sample_eta);
  sample->set_batch_size(config.sample_batch_size * processes);
  sample->set_num_batches_per_epoch(config.sample_num_batches_per_epoch);
  v1::TrainSpec* train = job.mutable_train();
  train->set_batch_size(config.train_batch_size * processes);
  train->set_gradient_accumulation_steps(config.train_gradient_accumulation_steps);
  train->set_learning_rate(config.train_learning_rate);
  train->set_clip_range(config.train_clip_range);
  train->set_num_inner_epochs(config.train_num_inner_epochs);
  train->set_adv_clip_max(config.train_adv_clip_max);
  train->set_max_grad_norm(config.train_max_grad_norm);
  train->set_adam_beta1(config.train_adam_beta1);
  train->set_adam_beta2(config.train_adam_beta2);
  train->set_adam_weight_decay(config.train_adam_weight_decay);
  train->set_adam_epsilon(config.train_adam_epsilon);
  if (config.per_prompt_stat_tracking) {
    v1::AdvantageSpec* advantage = job.mutable_advantage();
    advantage->set_mode("per_key");
    advantage->set_stat_key("prompt");
    advantage->set_buffer_size(config.per_prompt_stat_tracking_buffer_size);
    advantage->set_min_count(config.per_prompt_stat_tracking_min_count);
  }
  if (config.train_use_8bit_adam) train->set_optimizer("adamw8bit");
  if (config.mixed_precision == "bf16" || config.mixed_precision == "fp16") {
    job.mutable_model()->set_precision(config.mixed_precision);
  }
  if (config.allow_tf32) job.mutable_device()->set_allow_tf32(true);
  if (!config.negative_prompts.empty()) {
    job.mutable_data()->set_negative_prompt(config.negative_prompts);
  }
  return job;
}

std::vector<std::string> Notes(const DdpoConfig& config, const std::set<std::string>& given,
                               int processes) {
  std::vector<std::string> notes;
  if (processes > 1) {
    notes.push_back(absl::StrCat("batch sizes were per process and are now of all ", processes,
                                 " together, whatever the number of ranks"));
  }
  if (given.contains("train_cfg")) {
    notes.push_back(
        "train_cfg has no twin: the update always evaluates what the rollout evaluated");
  }
  if (given.contains("train_timestep_fraction")) {
    notes.push_back(absl::StrCat("train_timestep_fraction ", config.train_timestep_fraction,
                                 " has no twin: every step that the rollout ran is trained; "
                                 "`train.step_fraction` is a share of those"));
  }
  if (config.mixed_precision == "fp16") {
    notes.push_back(
        "mixed_precision fp16 runs on GPUs alone; elsewhere use `model.precision: bf16`");
  }
  const bool known = config.mixed_precision == "no" || config.mixed_precision == "bf16" ||
                     config.mixed_precision == "fp16";
  if (!known && given.contains("mixed_precision")) {
    notes.push_back(absl::StrCat("mixed_precision ", Printable(config.mixed_precision),
                                 " is not supported by this version; the model runs in fp32, and "
                                 "`model.precision: bf16` is possible"));
  }
  if (!config.resume_from.empty()) {
    notes.push_back(
        "resume_from has no twin: its checkpoints are read by accelerate alone; a LoRA file in "
        "diffusers' "
        "format can be given as lora.init_from");
  }
  if (config.seed < 0) notes.push_back("a negative seed is not possible; it is 0 now");
  if (given.contains("seed") || config.seed == 0) {
    notes.push_back("the seed is kept, but the streams of random numbers are this service's own");
  }
  std::vector<std::string> ignored;
  for (const std::string& key : IgnoredSettings()) {
    if (given.contains(key)) ignored.push_back(key);
  }
  if (!ignored.empty()) {
    notes.push_back(absl::StrCat("left out, having no effect on what is learned: ",
                                 absl::StrJoin(ignored, ", ")));
  }
  return notes;
}

}  // namespace

absl::StatusOr<TrlImport> ImportTrl(std::string_view text, const std::string& file, int processes) {
  if (processes < 1 || processes > kMaxProcesses) {
    return absl::InvalidArgumentError(
        absl::StrCat("--processes is ", processes, "; it must be from 1 to ", kMaxProcesses));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const YAML::Node root, LoadYamlMap(text, file));
  DdpoConfig config;
  const std::map<std::string, Field> fields = Fields(&config);
  YamlFaults faults(file);
  std::set<std::string> given;
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const std::string where = faults.Where(key, entry.first);
    if (!given.insert(key).second) {
      faults.Add(absl::StrCat(where, " is given twice"));
    } else if (const auto field = fields.find(key); field != fields.end()) {
      if (!field->second.read(entry.second)) {
        faults.Add(absl::StrCat(where, " must be ", field->second.expected, ", not ",
                                DescribeYaml(entry.second)));
      }
    } else if (!IgnoredSettings().contains(key)) {
      std::vector<std::string> known(IgnoredSettings().begin(), IgnoredSettings().end());
      for (const auto& [name, unused] : fields) known.push_back(name);
      faults.Add(absl::StrCat("unknown setting ", where, " of DDPOConfig", DidYouMean(key, known)));
    }
  }
  for (const auto& [key, samples] : {std::pair("sample_batch_size", config.sample_batch_size),
                                     std::pair("train_batch_size", config.train_batch_size)}) {
    int64_t of_all = 0;
    if (!__builtin_mul_overflow(samples, processes, &of_all)) continue;
    faults.Add(absl::StrCat("`", key, "` is ", samples, ", which is no number of samples"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(faults.ToStatus());
  return TrlImport{ToJob(config, processes), Notes(config, given, processes)};
}

std::string TrlImport::ToYaml(const std::string& source) const {
  std::string yaml =
      absl::StrCat("# Made from ", Printable(source), " by `imageddpo import-trl`.\n");
  for (const std::string& note : notes) absl::StrAppend(&yaml, "# - ", note, "\n");
  // In the schema's order, so that model and data stand where one looks for them.
  v1::JobSpec head;
  head.set_name(job.name());
  head.set_seed(job.seed());
  v1::JobSpec rest = job;
  rest.clear_name();
  rest.clear_seed();
  rest.clear_data();
  rest.clear_model();
  absl::StrAppend(&yaml, "\n", JobToYaml(head),
                  "# Fill in what DDPOConfig does not hold: model, data, rewards, noise_strength.\n"
                  "model:\n  path: path/to/stable-diffusion  # a folder in diffusers' layout\n");
  if (job.model().has_precision()) {
    absl::StrAppend(&yaml, "  precision: ", job.model().precision(), "\n");
  }
  absl::StrAppend(&yaml,
                  "data:\n  path: path/to/images  # PNG or JPEG, with or without metadata.jsonl\n");
  if (job.data().has_negative_prompt()) {
    v1::JobSpec data;
    data.mutable_data()->set_negative_prompt(job.data().negative_prompt());
    absl::StrAppend(&yaml, JobToYaml(data).substr(std::string("data:\n").size()));
  }
  absl::StrAppend(&yaml,
                  "rewards:\n  - {type: jpeg, measure: compressibility}  # or your classifier\n",
                  JobToYaml(rest));
  const std::string sample = "sample:\n";
  yaml.insert(
      yaml.find(sample) + sample.size(),
      "  noise_strength: 0.2  # the img2img trainer's argument, not a DDPOConfig setting\n");
  return yaml;
}

}  // namespace imageddpo
