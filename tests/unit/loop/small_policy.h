#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/lora/lora.h"
#include "rollout/sampler/sampler.h"
#include "trainer/loop/replay_update.h"

namespace imageddpo {

/// What the model and the policy of a test are like.
struct SmallPolicyCase {
  std::string name;
  std::string model;  ///< A stored pipeline; "demo": the demo's.
  double guidance = 1.0;
  double rescale = 0.0;
  double eta = 1.0;
  double strength = 0.7;
  std::vector<bool> same_tokens = {false, false, false, false};
  at::ScalarType dtype = at::kFloat;
  std::vector<std::string> target_modules = LoraConfig().target_modules;
};

/// A small model with a LoRA that does something, a policy, and the inputs of a micro-batch.
class SmallPolicy {
 public:
  static constexpr int64_t kBatch = 4;
  static constexpr int64_t kNumSteps = 6;

  /// Seeds libtorch's generator: equal cases have equal tensors.
  /// @param side  latent pixels each way.
  explicit SmallPolicy(const SmallPolicyCase& c, bool recompute = false, int64_t side = 8);

  std::unique_ptr<LogProbGradients> Collector();
  SampledTrajectories Sample(LogProbGradients* gradients);
  /// The trajectories with advantages, one of them beyond the clamp.
  ReplayBatch Batch(const SampledTrajectories& sampled) const;

  Pipeline pipeline;
  Lora lora;
  std::optional<Policy> policy;
  Schedule schedule;
  SamplerInputs inputs;
};

}  // namespace imageddpo
