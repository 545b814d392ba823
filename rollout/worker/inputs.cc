#include "rollout/worker/inputs.h"

#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file_digest.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr std::array kModelFolders = {"scheduler", "text_encoder", "tokenizer", "unet", "vae"};
constexpr std::array kModelFiles = {".json", ".safetensors", ".txt"};

bool IsRead(const fs::path& file) {
  for (const char* extension : kModelFiles) {
    if (file.extension() == extension) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> InputsOf(const ResolvedJob& job) {
  std::map<std::string, std::string> digests;
  const auto add = [&digests](const std::string& name, const std::string& path) -> absl::Status {
    IMAGEDDPO_ASSIGN_OR_RETURN(digests[name], FileDigest(path));
    return absl::OkStatus();
  };
  const fs::path model = PathOf(job.spec().model().path());
  for (const char* folder : kModelFolders) {
    std::error_code error;  // What is missing or cannot be listed was told when it was loaded.
    for (const fs::directory_entry& entry : fs::directory_iterator(model / folder, error)) {
      if (!entry.is_regular_file(error) || !IsRead(entry.path())) continue;
      const std::string name = absl::StrCat(folder, "/", entry.path().filename().string());
      IMAGEDDPO_RETURN_IF_ERROR(add(ValidText(name), entry.path().string()));
    }
  }
  for (const RewardConfig& reward : job.rewards()) {
    std::error_code error;
    if (!reward.model.empty() && fs::exists(reward.model, error)) {
      IMAGEDDPO_RETURN_IF_ERROR(add(ValidText(reward.model), reward.model));
    }
  }
  return digests;
}

std::string ChangedInputs(const nlohmann::json& before,
                          const std::map<std::string, std::string>& now) {
  std::vector<std::string> changed;
  if (!before.is_object()) return "";
  for (const auto& [name, digest] : now) {
    const auto found = before.find(name);
    if (found != before.end() && *found != digest) changed.push_back(name);
  }
  return absl::StrJoin(changed, ", ");
}

}  // namespace imageddpo
