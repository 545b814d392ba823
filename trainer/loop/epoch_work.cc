#include "trainer/loop/epoch_work.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/model_config/model_count.h"
#include "common/nn/peak_flops.h"

namespace imageddpo {
namespace {

/// The layers that a LoRA adapts; the rank of its first module is used for all.
AdapterTargets TargetsOf(const Lora& lora) {
  AdapterTargets targets = {.rank = 0, .modules = {}};
  if (lora.modules().empty()) return targets;
  targets.rank = lora.modules().front().rank();
  for (const char* kind : kAdapterKinds) {
    const auto is_kind = [&](const Lora::Module& module) {
      return absl::EndsWith(module.path, absl::StrCat(".", kind));
    };
    if (std::any_of(lora.modules().begin(), lora.modules().end(), is_kind)) {
      targets.modules.emplace_back(kind);
    }
  }
  return targets;
}

}  // namespace

double EpochWork::Flops(int64_t epoch, const std::vector<TrajectoryBatch>& batches) const {
  double flops = 0;
  for (const TrajectoryBatch& batch : batches) {
    double of_trained =
        replays > 0 ? static_cast<double>(replays) * (forward + backward) : backward;
    if (batch.weight_version != epoch) of_trained += forward;  // The policy at the epoch's start.
    const double row = static_cast<double>(num_steps + base_steps) * forward +
                       static_cast<double>(batch.timesteps_BK.size(1)) * of_trained;
    int64_t rows = batch.batch_size();
    if (guided) {
      rows += std::count(batch.keys.same_tokens.begin(), batch.keys.same_tokens.end(), false);
    }
    flops += static_cast<double>(rows) * row;
    flops += decode * static_cast<double>(batch.batch_size());
  }
  return flops;
}

absl::StatusOr<EpochWork> MakeEpochWork(const ResolvedJob& job, const Lora& lora, int64_t num_steps,
                                        int num_ranks, at::Device device) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ModelCount count, CountModel(PathOf(job.spec().model().path()),
                                                                job.data().size, TargetsOf(lora)));
  const bool samples = job.objective() != Objective::kSft;
  return EpochWork{.forward = count.unet.flops + count.unet.lora_flops,
                   .backward = count.unet.backward_flops,
                   .decode = samples ? count.decoder.flops : 0,
                   .num_steps = samples ? num_steps : 0,
                   .replays = job.plan().single_pass ? 0 : job.spec().train().num_inner_epochs(),
                   .base_steps = samples ? job.base_steps() : 0,
                   .guided = samples && job.uses_prompt(),
                   .peak_flops = num_ranks * MeasurePeakFlops(device, DtypeOf(job.precision()))};
}

}  // namespace imageddpo
