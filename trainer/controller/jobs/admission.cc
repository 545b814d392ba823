#include "trainer/controller/jobs/admission.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_paths.h"
#include "common/config/job_states.h"
#include "common/config/reward_service.h"
#include "common/io/file.h"
#include "common/io/image_names.h"
#include "common/io/sha256.h"
#include "common/model_config/adapter_config.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostSpecBytes = 64 << 10;
constexpr uintmax_t kMostRewardFileBytes = uintmax_t{4} << 30;  // Of one that is hashed.
constexpr int kMostEntries = 10'000;  // Looked at before a folder counts as one with images.

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

absl::Status CheckModelFolder(const std::string& path) {
  if (!IsFolder(path)) return absl::InvalidArgumentError(absl::StrCat("'", path, "' is no folder"));
  if (IsFile(fs::path(path) / "model_index.json") || IsFile(fs::path(path) / "unet/config.json"))
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("'", path,
                   "' has neither model_index.json nor unet/config.json; give the folder of a "
                   "Stable Diffusion checkpoint in diffusers' layout"));
}

/// Whether there is anything to read; which images there are, the workers find out.
absl::Status CheckImages(const std::string& path) {
  if (IsFile(path) && absl::EndsWithIgnoreCase(path, ".npy")) return absl::OkStatus();
  if (!IsFolder(path)) return absl::InvalidArgumentError(absl::StrCat("'", path, "' is no folder"));
  std::error_code error;
  int entries_left = kMostEntries;
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name == "metadata.jsonl" || name == "metadata.csv" || HasImageExtension(name) ||
        --entries_left == 0) {
      return absl::OkStatus();
    }
    const bool is_link = entry->is_symlink(error);
    if (is_link && IsFolder(entry->path())) return absl::OkStatus();
  }
  if (error)
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read the folder '", path, "'"));
  return absl::InvalidArgumentError(absl::StrCat(
      "the folder '", path,
      "' has no metadata.jsonl or metadata.csv and no image (.png, .jpg, .webp, …), nor have its "
      "sub-folders; give a folder with images, or a .npy of pictures"));
}

absl::Status CheckFile(const std::string& path) {
  if (IsFile(path)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", path, "' is no file"));
}

absl::Status CheckLora(const std::string& path) {
  if (IsFolder(path)) return FindLoraFile(path).status();
  if (IsFile(path)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", path, "' is neither a file nor a folder"));
}

/// job- and digits, as JobStore makes them.
bool IsIdOfJob(absl::string_view text) {
  return absl::ConsumePrefix(&text, "job-") && !text.empty() &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
}

/// Adds the error of `check` for the path of a setting, if the setting is given.
void Check(const std::string& setting, const std::string& path,
           absl::Status (*check)(const std::string&), std::vector<std::string>* faults) {
  if (path.empty()) return;
  const absl::Status status = check(PathOf(path));
  if (!status.ok()) faults->push_back(absl::StrCat("`", setting, "`: ", status.message()));
}

absl::StatusOr<std::string> HashOfRewardFile(const std::string& path) {
  return FileSha256(path, kMostRewardFileBytes);
}

/// The faults of both.
absl::Status Together(const absl::Status& one, const absl::Status& other) {
  if (one.ok() || other.ok()) return one.ok() ? other : one;
  Rejection both = RejectionOf(absl::IsPermissionDenied(other) ? other : one);
  both.violations = RejectionOf(one).violations;
  for (const FieldViolation& violation : RejectionOf(other).violations) {
    both.violations.push_back(violation);
  }
  const absl::StatusCode code = absl::IsPermissionDenied(other) ? other.code() : one.code();
  return WithRejection(absl::Status(code, absl::StrCat(one.message(), "\n", other.message())),
                       both);
}

/// @param job  with resolved paths.
absl::Status CheckFiles(const v1::JobSpec& job) {
  std::vector<std::string> faults;
  Check("model.path", job.model().path(), CheckModelFolder, &faults);
  Check("lora.init_from", job.lora().init_from(), CheckLora, &faults);
  Check("data.path", job.data().path(), CheckImages, &faults);
  Check("eval.path", job.eval().path(), CheckImages, &faults);
  for (int i = 0; i < job.eval().files_size(); ++i) {
    Check(absl::StrCat("eval.files[", i, "]"), job.eval().files(i), CheckFile, &faults);
  }
  for (int i = 0; i < job.rewards_size(); ++i) {
    Check(absl::StrCat("rewards[", i, "].model"), job.rewards(i).model(), CheckFile, &faults);
    Check(absl::StrCat("rewards[", i, "].tls_ca_file"), job.rewards(i).tls_ca_file(), CheckFile,
          &faults);
    Check(absl::StrCat("rewards[", i, "].token_file"), job.rewards(i).token_file(), CheckFile,
          &faults);
  }
  return InvalidSettings(faults);
}

}  // namespace

absl::Status NameLoraOfJob(const JobStore& store, v1::JobSpec* job) {
  const std::string asked = job->lora().init_from();
  absl::string_view id = asked;
  const bool is_best = absl::ConsumeSuffix(&id, ":best");
  if (!IsIdOfJob(id)) return absl::OkStatus();
  const absl::StatusOr<JobRecord> record = store.Get(std::string(id));
  if (!record.ok()) return Annotate(record.status(), "`lora.init_from`");
  const v1::Job& other = record->job;
  if (!IsFinal(other.state())) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "`lora.init_from`: ", id, " is ", StateName(other.state()),
            " and removes older checkpoints as it goes on; submit the job when that one has ended, "
            "or branch that one")),
        Reason::kJobState, {{"job", other.id()}});
  }
  const std::string& path = is_best ? other.best_lora_path() : other.lora_path();
  if (path.empty()) {
    return WithReason(absl::FailedPreconditionError(absl::StrCat(
                          "`lora.init_from`: ", id,
                          is_best ? " kept no LoRA of a best evaluation; it needs `checkpoint.best`"
                                  : " has no complete checkpoint")),
                      Reason::kNoCheckpoint, {{"job", other.id()}});
  }
  job->mutable_lora()->set_init_from(path);
  return absl::OkStatus();
}

absl::StatusOr<ResolvedJob> AdmitJob(const v1::JobSpec& submitted, const ClusterConfig& cluster,
                                     bool is_operator) {
  if (submitted.ByteSizeLong() > kMostSpecBytes) {
    return InvalidField(
        "job", absl::StrCat("has ", submitted.ByteSizeLong(), " bytes; at most ", kMostSpecBytes,
                            " are allowed. Long texts belong into the images' metadata "
                            "(`data.text_column`)"));
  }
  v1::JobSpec job = submitted;
  const absl::Status settings = ResolvedJob::Make(submitted).status();
  const absl::Status paths = ResolveJobPaths(cluster, &job);
  IMAGEDDPO_RETURN_IF_ERROR(Together(settings, paths));
  IMAGEDDPO_RETURN_IF_ERROR(CheckJobPaths(cluster, job));  // Links in folders, too.
  IMAGEDDPO_RETURN_IF_ERROR(
      CheckAllowedRewards(cluster.rewards_allow, is_operator, HashOfRewardFile, &job));
  IMAGEDDPO_RETURN_IF_ERROR(CheckFiles(job));
  return ResolvedJob::Make(std::move(job));
}

int ChooseNumThreads(const Topology& topology, int cores_per_host, int workers_per_host) {
  const int ranks =
      topology.colocated ? topology.rollout : std::max(topology.rollout, topology.trainer);
  const int at_once = std::clamp(ranks, 1, std::max(1, workers_per_host));
  return std::max(1, cores_per_host / at_once);
}

std::string RequestSha256(const v1::JobSpec& submitted) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream output(&stream);
    output.SetSerializationDeterministic(true);
    submitted.SerializeToCodedStream(&output);
  }
  return Sha256Hex(bytes);
}

}  // namespace imageddpo
