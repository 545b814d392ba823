#include "deploy/imageddpod/job_files.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_paths.h"
#include "common/io/sha256.h"

namespace imageddpo {

absl::Status CheckJobFiles(const ClusterConfig& cluster, const v1::JobSpec& job) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckJobPaths(cluster, job));
  for (int i = 0; i < job.rewards_size(); ++i) {
    const v1::RewardSpec& reward = job.rewards(i);
    if (!reward.has_model_sha256()) continue;
    const absl::StatusOr<std::string> sha256 = FileSha256(PathOf(reward.model()));
    if (!sha256.ok()) return WithFault(sha256.status(), {.whose = Whose::kHost, .passes = true});
    if (*sha256 == reward.model_sha256()) continue;
    return absl::PermissionDeniedError(
        absl::StrCat("`rewards[", i, "].model`: ", reward.model(), " has the SHA-256 ", *sha256,
                     ", and the job was taken with ", reward.model_sha256()));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
