#include "rollout/data/listing/fingerprint.h"

#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "rollout/data/listing/folder_files.h"

namespace imageddpo {
namespace {

constexpr size_t kHashDigits = 8;

}  // namespace

Fingerprint Fingerprint::Of(const ExampleTable& examples,
                            const std::vector<uint64_t>& sizes_bytes) {
  Fingerprint fingerprint;
  const std::string folder = absl::StrCat(ValidText(examples.folder()), "/");
  std::string all;
  for (int64_t i = 0; i < examples.size(); ++i) {
    const std::optional<int64_t> label = examples.label(i);
    // A JSON array, so that no two sets of values have one text.
    const nlohmann::json item = {
        examples.id(i),
        std::string(examples.text(i)),
        label ? nlohmann::json(*label) : nlohmann::json(),
        absl::StrReplaceAll(std::string(examples.metadata_json(i)), {{folder, ""}}),
        absl::StrReplaceAll(ValidText(examples.target_file_name(i)), {{folder, ""}}),
        sizes_bytes[static_cast<size_t>(i)]};
    fingerprint.ids.push_back(examples.id(i));
    fingerprint.hashes.push_back(Sha256Hex(item.dump()).substr(0, kHashDigits));
    absl::StrAppend(&all, fingerprint.ids.back(), "\n", fingerprint.hashes.back(), "\n");
  }
  fingerprint.sha256 = Sha256Hex(all);
  return fingerprint;
}

nlohmann::json Fingerprint::ToJson() const {
  return {{"sha256", sha256}, {"ids", ids}, {"hashes", absl::StrJoin(hashes, "")}};
}

absl::StatusOr<Fingerprint> Fingerprint::FromJson(const nlohmann::json& json) {
  Fingerprint fingerprint;
  try {
    fingerprint.sha256 = json.at("sha256");
    fingerprint.ids = json.at("ids");
    const std::string hashes = json.at("hashes");
    if (hashes.size() != fingerprint.ids.size() * kHashDigits) {
      return absl::InvalidArgumentError("state.json: data: `hashes` has another length than `ids`");
    }
    for (size_t at = 0; at < hashes.size(); at += kHashDigits) {
      fingerprint.hashes.push_back(hashes.substr(at, kHashDigits));
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("state.json: data: ", error.what()));
  }
  return fingerprint;
}

std::string Difference(const Fingerprint& before, const Fingerprint& now) {
  if (before.sha256 == now.sha256) return "";
  std::unordered_map<std::string, std::string> hash_of;
  for (size_t i = 0; i < before.ids.size(); ++i) hash_of.emplace(before.ids[i], before.hashes[i]);
  std::vector<std::string> added, changed, removed;
  for (size_t i = 0; i < now.ids.size(); ++i) {
    const auto found = hash_of.find(now.ids[i]);
    if (found == hash_of.end()) {
      added.push_back(now.ids[i]);
      continue;
    }
    if (found->second != now.hashes[i]) changed.push_back(now.ids[i]);
    hash_of.erase(found);
  }
  for (const std::string& id : before.ids) {
    if (hash_of.contains(id)) removed.push_back(id);
  }
  std::vector<std::string> parts;
  const auto tell = [&parts](const std::vector<std::string>& ids, const char* what) {
    if (ids.empty()) return;
    parts.push_back(absl::StrCat(ids.size(), ids.size() == 1 ? " image was " : " images were ",
                                 what, " (", SomeTexts(ids), ")"));
  };
  tell(added, "added");
  tell(removed, "removed");
  tell(changed, "changed: prompt, label, metadata or size of the file");
  return parts.empty() ? "the order of the images has changed" : absl::StrJoin(parts, ", ");
}

}  // namespace imageddpo
