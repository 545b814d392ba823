#include "common/plan/job_model.h"

#include <optional>
#include <string>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/model_config/adapter_size.h"

namespace imageddpo {

absl::StatusOr<ModelCount> CountJobModel(const ResolvedJob& job) {
  const v1::JobSpec& spec = job.spec();
  const auto& modules = spec.lora().target_modules();
  AdapterTargets targets{.rank = spec.lora().rank(), .modules = {modules.begin(), modules.end()}};
  std::optional<AdapterSize> file;
  if (!spec.lora().init_from().empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(file, ReadAdapterSize(PathOf(spec.lora().init_from())));
    targets = file->targets;
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(ModelCount count,
                             CountModel(PathOf(spec.model().path()), job.data().size, targets));
  // Its modules may have different ranks, and may be some of the layers of a kind.
  if (file.has_value()) count.unet.lora_parameters = file->parameters;
  return count;
}

}  // namespace imageddpo
