#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"
#include "rollout/reward/reward.h"
#include "rollout/reward/reward_host.h"
#include "rollout/reward/score_probe.h"
#include "rollout/reward/script_contract.h"
#include "rollout/reward/torchscript_module.h"

namespace imageddpo {

/// `type: torchscript`: any scorer in a TorchScript file. What it takes and returns is said by
/// `imageddpo.json` inside the archive (script_contract.h); without that file it is [N,3,H,W]
/// float32 in [0,1] → [N], [N,1] or [N,1,1,1]. Returned tensors may have any floating-point type.
/// Parts: every output that has a name, except one called "value". The batch is given to the
/// module as it comes, so equal batches have equal bits.
/// A batch whose module fails, returns other outputs or other shapes, or that has an example
/// without a label that is asked for, is INVALID_ARGUMENT.
class TorchScriptReward final : public Reward {
 public:
  static absl::StatusOr<std::unique_ptr<Reward>> Make(const RewardConfig& config, at::Device device,
                                                      const RewardHost& host);

  std::string name() const override { return "torchscript"; }
  RewardNeeds wants() const override { return {.targets = contract_.wants(ScriptInput::kTarget)}; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  TorchScriptReward(TorchScriptModule module, ScriptContract contract,
                    std::unique_ptr<ClipTokenizer> tokenizer, RewardHost host)
      : module_(std::move(module)),
        contract_(std::move(contract)),
        tokenizer_(std::move(tokenizer)),
        host_(std::move(host)) {}

  absl::StatusOr<std::vector<ScriptOutput>> Run(const RewardBatch& batch);

  TorchScriptModule module_;
  ScriptContract contract_;
  std::unique_ptr<ClipTokenizer> tokenizer_;  ///< Null where no tokens are asked for.
  RewardHost host_;
};

}  // namespace imageddpo
