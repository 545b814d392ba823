#include "deploy/imageddpo/client/job_file.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/config/job_config.h"

namespace imageddpo {
namespace {

constexpr uintmax_t kMostJobFileBytes = 16 << 20;

// A file's name as a job's name; empty where nothing of it may be in one.
std::string NameFromFile(const std::string& file) {
  std::string name = std::filesystem::path(file).stem().string().substr(0, 64);
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_') c = '-';
  }
  return name;
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& file) {
  if (file == "-") {
    return std::string((std::istreambuf_iterator<char>(std::cin)),
                       std::istreambuf_iterator<char>());
  }
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is a folder; give a job file"));
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    return absl::InvalidArgumentError(absl::StrCat(file, std::filesystem::exists(file, error)
                                                             ? " cannot be read by this user"
                                                             : " does not exist"));
  }
  if (const uintmax_t bytes = std::filesystem::file_size(file, error);
      !error && bytes > kMostJobFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has ", bytes,
                                                   " bytes; a job file has at most ",
                                                   kMostJobFileBytes, ": is it the right one?"));
  }
  return std::string((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
}

absl::StatusOr<ResolvedJob> LoadJobFile(const std::string& file,
                                        const std::vector<std::string>& settings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadInput(file));
  IMAGEDDPO_ASSIGN_OR_RETURN(v1::JobSpec job,
                             ParseJobYaml(text, file == "-" ? "standard input" : file));
  for (const std::string& setting : settings) {
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(ApplyJobSetting(setting, &job), "--set"));
  }
  if (!job.has_name() && file != "-") {
    const std::string name = NameFromFile(file);
    if (!name.empty()) job.set_name(name);
  }
  absl::StatusOr<ResolvedJob> judged = ResolvedJob::Make(std::move(job));
  if (judged.ok()) return judged;
  return absl::InvalidArgumentError(
      absl::StrCat(file, " cannot run:\n  ",
                   absl::StrReplaceAll(std::string(judged.status().message()), {{"\n", "\n  "}})));
}

}  // namespace imageddpo
