#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace imageddpo {

/// The computations of imageddpo-trace, from files to files (safetensors), through the same code as
/// the service's workers: rollout, update, advantages; and what their parts cost, for the planner.
/// Nothing is drawn at random; every noise comes from the input file.
///
/// Errors name the file and the tensor or the option. UNIMPLEMENTED: a choice that is not built.
/// Compute throws what it throws in the service (std::invalid_argument, c10::Error).

/// Settings of the policy, for rollout and update alike.
struct TracePolicyOptions {
  int64_t num_steps = 10;  ///< Of the full schedule.
  double guidance_scale = 1.0;
  double guidance_rescale = 0.0;
  double eta = 1.0;
  std::string precision = "fp32";  ///< fp32 or bf16: of the model's calls only.
  std::string device = "cpu";      ///< cpu or cuda (the first one).
  /// Intra-op threads. Not the machine's number of cores: the last bits depend on it, and the same
  /// files are to give the same results everywhere.
  int64_t num_threads = 2;
};

struct TraceRolloutOptions {
  std::string model;   ///< Folder in diffusers' layout.
  std::string lora;    ///< Empty: the base model.
  std::string inputs;  ///< image, encode_noise, init_noise, step_noise.
  std::string output;
  TracePolicyOptions policy;
  double noise_strength = 0.5;
  std::string prompt;
  std::string negative_prompt;
};
absl::Status TraceRollout(const TraceRolloutOptions& options);

struct TraceUpdateOptions {
  std::string model;
  std::string lora;
  std::string inputs;      ///< advantages.
  std::string trajectory;  ///< What TraceRollout() wrote.
  std::string output_lora;
  std::string output;
  TracePolicyOptions policy;
  int64_t train_batch_size = 2;             ///< Samples of a micro-batch.
  int64_t gradient_accumulation_steps = 2;  ///< Micro-batches of an update.
  int64_t num_inner_epochs = 1;
  double learning_rate = 3e-4;
  double clip_range = 1e-4;
  double adv_clip_max = 5.0;
  double max_grad_norm = 1.0;
  std::string optimizer = "adamw";
  int64_t min_8bit_size = 4096;  ///< adamw8bit: smaller tensors keep 32-bit moments.
  std::string update = "replay";
};
absl::Status TraceUpdate(const TraceUpdateOptions& options);

struct TraceAdvantagesOptions {
  std::string inputs;  ///< rewards, and ids for per_key.
  std::string output;
  std::string mode = "global";  ///< As `advantage.mode`.
  int64_t buffer_size = 16;
  int64_t min_count = 16;
};
absl::Status TraceAdvantages(const TraceAdvantagesOptions& options);

struct TraceCostsOptions {
  std::string job;     ///< A job file: its model, adapters, rewards, micro-batch, threads.
  std::string output;  ///< JSON, see Costs in common/plan/costs.h.
  /// Samples of a batch to measure at; empty: 1 and the job's micro-batch.
  std::vector<int64_t> batch_sizes;
  double min_seconds = 0.2;  ///< Each stage is repeated for this long, three times at least.
  int64_t most_steps = 4;    ///< Of a trajectory, in the stages that run steps.
  // Of the network, for what crosses between ranks; 0: an assumption (LinkCosts).
  double link_latency_us = 0;
  double link_message_us = 0;
  double link_gigabytes_per_second = 0;
};
/// Measures every stage of an epoch on this machine's first device: the median of its repetitions.
/// The images are grey, the trajectories noise: what a step costs does not depend on values.
absl::Status TraceCosts(const TraceCostsOptions& options);

}  // namespace imageddpo
