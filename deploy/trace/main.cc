// imageddpo-trace: one rollout, update or advantage computation from files to files, and what the
// parts of a job cost.

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "common/base/memory.h"
#include "common/base/text.h"
#include "deploy/trace/guard.h"
#include "deploy/trace/trace.h"

namespace imageddpo {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUnimplemented = 2;

constexpr char kFooter[] =
    "\nAll files but those of costs are safetensors. Exit codes: 0 done; 1 an error, with a "
    "message; 2 not built yet.";

void AddPolicyOptions(CLI::App& command, TracePolicyOptions& policy) {
  command.add_option("--num-steps", policy.num_steps, "Steps of the full schedule");
  command.add_option("--guidance-scale", policy.guidance_scale,
                     "Above 1: two branches; at most 1: the negative prompt alone");
  command.add_option("--guidance-rescale", policy.guidance_rescale, "0 is off");
  command.add_option("--eta", policy.eta, "Noise of a step; 1 is DDPM's");
  command.add_option("--precision", policy.precision, "Of the model's calls: fp32 or bf16");
  command.add_option("--device", policy.device, "cpu or cuda");
  command.add_option("--num-threads", policy.num_threads, "Intra-op; the last bits depend on it");
}

CLI::Option* AddFile(CLI::App& command, const char* name, std::string& path, const char* help) {
  return command.add_option(name, path, help)->type_name("FILE")->required();
}

CLI::Option* AddModel(CLI::App& command, std::string& path) {
  return command.add_option("--model", path, "Pipeline in diffusers' layout")
      ->type_name("DIR")
      ->required();
}

void AddRollout(CLI::App& app, TraceRolloutOptions& options, std::function<absl::Status()>& run) {
  CLI::App* command = app.add_subcommand("rollout", "Images and noise to trajectories");
  AddModel(*command, options.model);
  command->add_option("--lora", options.lora, "None: the base model")->type_name("FILE");
  AddFile(*command, "--inputs", options.inputs, "image, encode_noise, init_noise, step_noise");
  AddFile(*command, "--output", options.output, "latents, log_probs, images, …");
  AddPolicyOptions(*command, options.policy);
  command->add_option("--noise-strength", options.noise_strength, "0 to 1");
  command->add_option("--prompt", options.prompt, "Unused at guidance of at most 1");
  command->add_option("--negative-prompt", options.negative_prompt, "What to steer away from");
  command->callback([&] { run = [&] { return TraceRollout(options); }; });
}

void AddUpdate(CLI::App& app, TraceUpdateOptions& options, std::function<absl::Status()>& run) {
  CLI::App* command = app.add_subcommand("update", "Trajectories and advantages to a new LoRA");
  AddModel(*command, options.model);
  AddFile(*command, "--lora", options.lora, "The LoRA that the trajectories were sampled with");
  AddFile(*command, "--inputs", options.inputs, "advantages");
  AddFile(*command, "--trajectory", options.trajectory, "What rollout wrote");
  AddFile(*command, "--output-lora", options.output_lora, "The LoRA after all updates");
  AddFile(*command, "--output", options.output, "losses, grad_norm, grad.…");
  AddPolicyOptions(*command, options.policy);
  command->add_option("--train-batch-size", options.train_batch_size, "Of a micro-batch");
  command->add_option("--gradient-accumulation-steps", options.gradient_accumulation_steps,
                      "Micro-batches of an update");
  command->add_option("--num-inner-epochs", options.num_inner_epochs, "Passes over the samples");
  command->add_option("--learning-rate", options.learning_rate, "Of AdamW");
  command->add_option("--clip-range", options.clip_range, "Of the ratio, around 1");
  command->add_option("--adv-clip-max", options.adv_clip_max, "Bound of |advantage|");
  command->add_option("--max-grad-norm", options.max_grad_norm, "Of all gradients together");
  command->add_option("--optimizer", options.optimizer, "adamw or adamw8bit");
  command->add_option("--min-8bit-size", options.min_8bit_size,
                      "adamw8bit: smaller tensors keep 32-bit moments");
  command->add_option("--update", options.update, "replay or single_pass");
  command->callback([&] { run = [&] { return TraceUpdate(options); }; });
}

void AddAdvantages(CLI::App& app, TraceAdvantagesOptions& options,
                   std::function<absl::Status()>& run) {
  CLI::App* command = app.add_subcommand("advantages", "Rewards to advantages, unclamped");
  AddFile(*command, "--inputs", options.inputs, "rewards, and ids for per_key");
  AddFile(*command, "--output", options.output, "advantages");
  command->add_option("--mode", options.mode, "As `advantage.mode`");
  command->add_option("--buffer-size", options.buffer_size, "Rewards kept per key");
  command->add_option("--min-count", options.min_count, "Fewer: the epoch's statistics");
  command->callback([&] { run = [&] { return TraceAdvantages(options); }; });
}

void AddCosts(CLI::App& app, TraceCostsOptions& options, std::function<absl::Status()>& run) {
  CLI::App* command = app.add_subcommand(
      "costs", "Measure what the stages of a job cost on this machine, for `imageddpo plan`");
  command->add_option("--job", options.job, "Job file, YAML or JSON")
      ->type_name("FILE")
      ->required();
  command->add_option("--output", options.output, "JSON")->type_name("FILE")->required();
  command
      ->add_option("--batch-sizes", options.batch_sizes,
                   "Samples of a batch; by default 1 and the job's micro-batch")
      ->delimiter(',');
  command->add_option("--min-seconds", options.min_seconds, "Of each stage, three times at least");
  command->add_option("--most-steps", options.most_steps, "Of a trajectory");
  command->add_option("--link-latency-us", options.link_latency_us,
                      "Between two ranks, as measured elsewhere; 0: assumed");
  command->add_option("--link-message-us", options.link_message_us,
                      "What one more message adds; 0: assumed");
  command->add_option("--link-gbytes", options.link_gigabytes_per_second,
                      "GB/s of a rank, each way; 0: assumed");
  command->callback([&] { run = [&] { return TraceCosts(options); }; });
}

int Main(int argc, char** argv) {
  CLI::App app("One rollout, update or advantage computation, from files to files.",
               "imageddpo-trace");
  app.require_subcommand(1);
  app.footer(kFooter);
  app.option_defaults()->always_capture_default();
  TraceRolloutOptions rollout;
  TraceUpdateOptions update;
  TraceAdvantagesOptions advantages;
  TraceCostsOptions costs;
  std::function<absl::Status()> run;
  AddRollout(app, rollout, run);
  AddUpdate(app, update, run);
  AddAdvantages(app, advantages, run);
  AddCosts(app, costs, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitError;
  }
  const absl::Status status = run();
  if (status.ok()) return 0;
  std::cerr << "imageddpo-trace: " << Printable(status.ToString(), /*keep_newlines=*/true) << "\n";
  return status.code() == absl::StatusCode::kUnimplemented ? kExitUnimplemented : kExitError;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  imageddpo::KeepFreeMemory();
  return imageddpo::Guard("imageddpo-trace", imageddpo::kExitError,
                          [&] { return imageddpo::Main(argc, argv); });
}
