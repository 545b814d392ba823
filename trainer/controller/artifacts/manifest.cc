#include "trainer/controller/artifacts/manifest.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr int kFormat = 1;

}  // namespace

void Manifest::Add(const std::string& name, std::string_view bytes) {
  files[name] = File{bytes.size(), Sha256Hex(bytes)};
}

std::string Manifest::ToJson() const {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["epoch"] = epoch;
  for (const auto& [name, file] : files) {
    json["files"][name] = {{"size_bytes", file.size_bytes}, {"sha256", file.sha256}};
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<Manifest> Manifest::FromJson(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    const int format = json.at("format").get<int>();
    if (format != kFormat) {
      return absl::UnimplementedError(
          absl::StrCat("MANIFEST has format ", format, "; this version reads ", kFormat));
    }
    Manifest manifest;
    manifest.epoch = json.at("epoch").get<int64_t>();
    for (const auto& [name, file] : json.at("files").items()) {
      manifest.files[name] =
          File{file.at("size_bytes").get<uint64_t>(), file.at("sha256").get<std::string>()};
    }
    return manifest;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("MANIFEST is damaged: ", error.what()));
  }
}

absl::Status Manifest::Check(const std::string& name, std::string_view bytes) const {
  const auto file = files.find(name);
  if (file == files.end())
    return absl::DataLossError(absl::StrCat("MANIFEST does not list ", name));
  if (file->second.size_bytes != bytes.size()) {
    return absl::DataLossError(absl::StrCat(
        name, " has ", bytes.size(), " bytes where MANIFEST says ", file->second.size_bytes));
  }
  if (file->second.sha256 != Sha256Hex(bytes)) {
    return absl::DataLossError(
        absl::StrCat(name, " has other bytes than were written (SHA-256 differs from MANIFEST)"));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
