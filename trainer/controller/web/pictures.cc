#include "trainer/controller/web/pictures.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "trainer/controller/files/artifact_file.h"
#include "trainer/controller/files/job_files.h"

namespace imageddpo {
namespace {

constexpr int64_t kMaxPictureBytes = 64 << 20;
constexpr int64_t kMaxScoreBytes = 256 << 10;
constexpr size_t kMaxScores = 64;
constexpr std::array<const char*, 2> kKinds = {"eval", "samples"};
constexpr char kEpochPrefix[] = "epoch-";

struct PictureName {
  std::string kind;
  std::string folder;
  int64_t epoch = 0;
  std::string file;
};

/// Not set: it is no name of a picture.
std::optional<PictureName> ParseName(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() != 3) return std::nullopt;
  PictureName picture{.kind = parts[0], .folder = parts[1], .file = parts[2]};
  if (std::find(kKinds.begin(), kKinds.end(), picture.kind) == kKinds.end()) return std::nullopt;
  const std::string digits =
      absl::StartsWith(picture.folder, kEpochPrefix) ? picture.folder.substr(6) : "";
  const bool is_epoch = !digits.empty() && digits.size() <= 18 &&
                        std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) &&
                        absl::SimpleAtoi(digits, &picture.epoch);
  const bool is_file = absl::EndsWith(picture.file, ".png") && picture.file.front() != '.' &&
                       std::all_of(picture.file.begin(), picture.file.end(), [](char c) {
                         return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
                                c == '_' || c == '.';
                       });
  if (!is_epoch || !is_file) return std::nullopt;
  return picture;
}

absl::Status NoPicture(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("there is no picture ", name));
}

}  // namespace

absl::StatusOr<std::string> PicturesJson(const JobStore& store, const std::string& job_id) {
  using Set = std::pair<std::string, int64_t>;
  std::map<Set, std::vector<std::string>> sets;
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(job_id).status());
  for (const char* const kind : kKinds) {
    for (const std::string& artifact : ArtifactNamesIn(store, job_id, kind)) {
      if (const auto name = ParseName(artifact); name.has_value()) {
        sets[{name->kind, name->epoch}].push_back(name->file);
      }
    }
  }
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [set, pictures] : sets) {
    list.push_back({{"kind", set.first}, {"epoch", set.second}, {"pictures", pictures}});
  }
  return nlohmann::json{{"sets", std::move(list)}}.dump() + "\n";
}

absl::StatusOr<std::string> ScoresJson(const JobStore& store, const std::string& job_id,
                                       int64_t epoch) {
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(job_id).status());
  const std::string name = absl::StrFormat("eval/%s%06d.jsonl", kEpochPrefix, epoch);
  nlohmann::ordered_json scores = nlohmann::ordered_json::array();
  if (const auto file = ArtifactFile::Open(store.JobDir(job_id), name); file.ok()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string rows,
                               file->Read(0, std::min(file->size_bytes(), kMaxScoreBytes)));
    // A row that is cut is no JSON.
    for (const absl::string_view line : absl::StrSplit(rows, '\n', absl::SkipEmpty())) {
      auto row = nlohmann::ordered_json::parse(line.begin(), line.end(), nullptr,
                                               /*allow_exceptions=*/false);
      if (row.is_object() && scores.size() < kMaxScores) scores.push_back(std::move(row));
    }
  }
  return nlohmann::ordered_json{{"scores", std::move(scores)}}.dump(
             -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<std::string> ReadPicture(const JobStore& store, const std::string& job_id,
                                        const std::string& name) {
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(job_id).status());
  if (!ParseName(name).has_value()) return NoPicture(name);
  const absl::StatusOr<ArtifactFile> file = ArtifactFile::Open(store.JobDir(job_id), name);
  if (!file.ok() || file->size_bytes() > kMaxPictureBytes) return NoPicture(name);
  return file->Read(0, file->size_bytes());
}

}  // namespace imageddpo
