#include "common/config/job_paths.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr char kInitFrom[] = "lora.init_from";

/// The files of all jobs, LoRAs among them.
std::string JobsFolder(const ClusterConfig& config) { return config.data_dir + "/jobs"; }

// Whole path elements count: /data-old is not below /data.
bool IsBelow(const fs::path& path, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

/// Whether the path, with every symbolic link followed, lies in a folder that the setting may name.
bool IsAllowedPath(const ClusterConfig& config, const std::string& setting, const fs::path& real) {
  std::vector<std::string> roots = config.allowed_roots;
  if (setting == kInitFrom) roots.push_back(JobsFolder(config));
  return std::any_of(roots.begin(), roots.end(), [&](const std::string& allowed) {
    std::error_code error;
    const fs::path root = fs::weakly_canonical(allowed, error);
    return !error && IsBelow(real, root);
  });
}

/// Adds what leads out of the allowed folders from below `folder`, which is one of them.
void CheckLinksBelow(const ClusterConfig& config, const std::string& setting,
                     const std::string& folder, std::vector<std::string>* faults) {
  constexpr auto kOptions = fs::directory_options::follow_directory_symlink |
                            fs::directory_options::skip_permission_denied;
  std::set<fs::path> followed = {folder};
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, kOptions, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;
    if (!entry->is_symlink(unknown)) continue;
    // What weakly_canonical() says of a link that leads nowhere is the link itself.
    const fs::path target = entry->path().parent_path() / fs::read_symlink(entry->path(), unknown);
    const fs::path real = fs::weakly_canonical(target, unknown);
    const bool is_new = followed.insert(real).second;
    if (!is_new) entry.disable_recursion_pending();  // Links in a circle.
    if (unknown || IsAllowedPath(config, setting, real)) continue;
    entry.disable_recursion_pending();
    faults->push_back(absl::StrCat("`", setting, "`: ", ValidText(entry->path().string()),
                                   " is a link that leads out of the folders that jobs may use (",
                                   absl::StrJoin(config.allowed_roots, ", "), ")"));
  }
  if (error) {  // What was not looked at is not allowed.
    faults->push_back(absl::StrCat("`", setting, "`: ", ValidText(folder),
                                   " cannot be looked through: ", error.message()));
  }
}

}  // namespace

absl::StatusOr<std::string> ResolveJobPath(const ClusterConfig& config, const std::string& setting,
                                           const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", setting, "`: ", path, " has a zero byte in it"));
  }
  const fs::path absolute =
      (fs::path(config.base_dir) / PathOf(path, config.base_dir)).lexically_normal();
  std::error_code error;
  const fs::path real = fs::weakly_canonical(absolute, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("`", setting, "`: ", absolute.string(),
                                                   " cannot be reached: ", error.message()));
  }
  // Checked before existence, so that nobody learns which files exist outside the allowed roots.
  if (!IsAllowedPath(config, setting, real)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "`", setting, "`: ", absolute.string(), " lies outside the folders that jobs may use (",
        absl::StrJoin(config.allowed_roots, ", "),
        "); move it there, or let the service's owner add its folder to `allowed_roots` in "
        "cluster.yaml"));
  }
  if (!fs::exists(real, error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`", setting, "`: ", absolute.string(), " does not exist on the service's host",
        fs::path(path).is_absolute()
            ? ""
            : absl::StrCat(" (relative paths start at ", config.base_dir, ")")));
  }
  return ValidText(real.string());
}

absl::Status ResolveJobPaths(const ClusterConfig& config, v1::JobSpec* job) {
  v1::JobSpec resolved = *job;
  std::vector<std::pair<std::string, std::string*>> paths;
  const auto add = [&](std::string setting, std::string* path) {
    if (!path->empty()) paths.emplace_back(std::move(setting), path);
  };
  if (resolved.has_model()) add("model.path", resolved.mutable_model()->mutable_path());
  if (resolved.lora().has_init_from()) {
    add(kInitFrom, resolved.mutable_lora()->mutable_init_from());
  }
  if (resolved.data().has_path()) add("data.path", resolved.mutable_data()->mutable_path());
  if (resolved.eval().has_path()) add("eval.path", resolved.mutable_eval()->mutable_path());
  for (int i = 0; i < resolved.eval().files_size(); ++i) {
    add(absl::StrCat("eval.files[", i, "]"), resolved.mutable_eval()->mutable_files(i));
  }
  for (int i = 0; i < resolved.rewards_size(); ++i) {
    if (resolved.rewards(i).has_model()) {
      add(absl::StrCat("rewards[", i, "].model"), resolved.mutable_rewards(i)->mutable_model());
    }
    if (resolved.rewards(i).has_tls_ca_file()) {
      add(absl::StrCat("rewards[", i, "].tls_ca_file"),
          resolved.mutable_rewards(i)->mutable_tls_ca_file());
    }
    if (resolved.rewards(i).has_token_file()) {
      add(absl::StrCat("rewards[", i, "].token_file"),
          resolved.mutable_rewards(i)->mutable_token_file());
    }
  }
  std::vector<std::string> faults;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  for (const auto& [setting, path] : paths) {
    absl::StatusOr<std::string> real = ResolveJobPath(config, setting, *path);
    if (real.ok()) {
      *path = *std::move(real);
    } else {
      faults.emplace_back(real.status().message());
      if (absl::IsPermissionDenied(real.status())) code = absl::StatusCode::kPermissionDenied;
    }
  }
  if (!faults.empty()) {
    return InvalidSettings(faults, code,
                           code == absl::StatusCode::kPermissionDenied ? Reason::kPathNotAllowed
                                                                       : Reason::kInvalidSettings);
  }
  *job = std::move(resolved);
  return absl::OkStatus();
}

absl::Status CheckJobPaths(const ClusterConfig& config, const v1::JobSpec& job) {
  v1::JobSpec resolved = job;
  const absl::Status paths = ResolveJobPaths(config, &resolved);
  if (absl::IsPermissionDenied(paths)) return paths;
  std::vector<std::string> faults;
  for (const auto& [setting, path] : {std::pair("model.path", PathOf(job.model().path())),
                                      std::pair(kInitFrom, PathOf(job.lora().init_from()))}) {
    std::error_code error;
    if (!path.empty() && fs::is_directory(path, error)) {
      CheckLinksBelow(config, setting, path, &faults);
    }
  }
  return InvalidSettings(faults, absl::StatusCode::kPermissionDenied, Reason::kPathNotAllowed);
}

}  // namespace imageddpo
