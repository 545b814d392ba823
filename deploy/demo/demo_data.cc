#include "deploy/demo/demo_data.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/io/file.h"
#include "common/io/file_system.h"
#include "common/io/image.h"
#include "deploy/demo/idx_file.h"

namespace imageddpo::demo {
namespace {

namespace fs = std::filesystem;

constexpr int kClasses = 10;
constexpr int kBorder_px = 2;  // 28 + 2 * 2 = 32, a multiple of the VAE's factor
constexpr char kMarkerName[] = ".complete";

absl::Status WithRemedy(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::NotFoundError(absl::StrCat(
      status.message(),
      "; install the Debian package dataset-fashion-mnist or name the folder with --dataset"));
}

/// What a complete folder was made from; two equal markers mean equal folders.
std::string Marker(const Split& split, const FolderPlan& plan) {
  nlohmann::ordered_json marker;
  marker["dataset"] = "fashion-mnist";
  marker["split"] = split.name;
  marker["count"] = plan.count;
  marker["blur_sigma_px"] =
      plan.blur_sigma_px ? nlohmann::ordered_json(*plan.blur_sigma_px) : nullptr;
  marker["version"] = 1;
  return marker.dump() + "\n";
}

absl::StatusOr<std::string> GreyPng(const GreyImage& image) {
  Image out{.width = image.width_px, .height = image.height_px, .rgb = {}};
  out.rgb.reserve(image.pixels.size() * 3);
  for (const uint8_t value : image.pixels) out.rgb.insert(out.rgb.end(), 3, value);
  return EncodePng(out);
}

absl::Status WriteImages(const Split& split, const FolderPlan& plan, AtomicDirectory& folder) {
  const absl::StatusOr<std::vector<int>> chosen = SelectEvenly(split.labels, plan.count);
  if (!chosen.ok()) return chosen.status();
  std::string metadata;
  for (const int index : *chosen) {
    const auto row = static_cast<size_t>(index);
    const GreyImage& clean = split.images[row];
    const absl::StatusOr<std::string> png =
        GreyPng(plan.blur_sigma_px ? Blur(clean, *plan.blur_sigma_px) : clean);
    if (!png.ok()) return png.status();
    const std::string id = absl::StrFormat("%s-%06d", split.name, index);
    if (absl::Status status = folder.Write(id + ".png", *png); !status.ok()) return status;
    nlohmann::ordered_json line;
    line["file_name"] = id + ".png";
    line["text"] = "";
    line["label"] = split.labels[row];
    line["id"] = id;
    metadata += line.dump() + "\n";
  }
  return folder.Write("metadata.jsonl", metadata);
}

/// True when `path` holds a complete folder with this marker; false when it may be written.
absl::StatusOr<bool> AlreadyWritten(const std::string& path, const std::string& marker) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(path);
  if (absl::IsNotFound(names.status())) return false;
  if (!names.ok()) return names.status();
  if (names->empty()) return false;
  const absl::StatusOr<std::string> found = ReadFile(path + "/" + kMarkerName);
  if (found.ok()) return *found == marker;
  return absl::AlreadyExistsError(
      absl::StrCat(path, ": was not written by this tool; remove it or choose another --output"));
}

}  // namespace

absl::StatusOr<Split> ReadSplit(const fs::path& folder, const std::string& name) {
  const std::string prefix = name == "test" ? "t10k" : name;
  const fs::path images_path = folder / (prefix + "-images-idx3-ubyte.gz");
  const fs::path labels_path = folder / (prefix + "-labels-idx1-ubyte.gz");
  absl::StatusOr<IdxArray> images = ReadIdxFile(images_path, 3);
  if (!images.ok()) return WithRemedy(images.status());
  absl::StatusOr<IdxArray> labels = ReadIdxFile(labels_path, 1);
  if (!labels.ok()) return WithRemedy(labels.status());
  if (images->sizes[0] != labels->sizes[0]) {
    return absl::DataLossError(absl::StrCat(images_path.string(), " holds ", images->sizes[0],
                                            " images, but ", labels_path.string(), " ",
                                            labels->sizes[0], " labels"));
  }
  if (images->sizes[1] != 28 || images->sizes[2] != 28) {
    return absl::InvalidArgumentError(absl::StrCat(images_path.string(), ": images of ",
                                                   images->sizes[1], "x", images->sizes[2],
                                                   " pixels; Fashion-MNIST has 28x28"));
  }
  if (std::ranges::any_of(labels->values, [](uint8_t label) { return label >= kClasses; })) {
    return absl::DataLossError(absl::StrCat(labels_path.string(), ": a label is above 9"));
  }

  Split split{.name = name, .images = {}, .labels = std::move(labels->values)};
  constexpr size_t kPixels = size_t{28} * 28;
  const std::span<const uint8_t> pixels = images->values;
  for (size_t row = 0; row < split.labels.size(); ++row) {
    split.images.push_back(
        PadWithBlack(pixels.subspan(row * kPixels, kPixels), 28, 28, kBorder_px));
  }
  return split;
}

absl::StatusOr<std::vector<int>> SelectEvenly(const std::vector<uint8_t>& labels, int count) {
  if (count < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot choose ", count, " images: ask for 1 or more"));
  }
  std::array<int, kClasses> wanted{};
  for (int label = 0; label < kClasses; ++label) {
    wanted[static_cast<size_t>(label)] = count / kClasses + (label < count % kClasses ? 1 : 0);
  }
  std::vector<int> chosen;
  for (size_t row = 0; row < labels.size(); ++row) {
    int& left = wanted.at(labels[row]);
    if (left == 0) continue;
    --left;
    chosen.push_back(static_cast<int>(row));
  }
  for (int label = 0; label < kClasses; ++label) {
    if (const int missing = wanted[static_cast<size_t>(label)]; missing > 0) {
      return absl::InvalidArgumentError(absl::StrCat("cannot choose ", count, " images: class ",
                                                     label, " has ", missing, " too few"));
    }
  }
  return chosen;
}

absl::StatusOr<bool> WriteFolder(const Split& split, const FolderPlan& plan) {
  const std::string path = plan.path.string();
  const std::string marker = Marker(split, plan);
  const absl::StatusOr<bool> written = AlreadyWritten(path, marker);
  if (!written.ok()) return written.status();
  if (*written) return false;

  if (absl::Status status = MakeDirectories(fs::absolute(plan.path).parent_path().string());
      !status.ok()) {
    return status;
  }
  PosixFileSystem file_system;
  absl::StatusOr<AtomicDirectory> folder = AtomicDirectory::Create(file_system, path);
  if (!folder.ok()) return folder.status();
  if (absl::Status status = WriteImages(split, plan, *folder); !status.ok()) return status;
  if (absl::Status status = folder->Write(kMarkerName, marker); !status.ok()) return status;
  if (absl::Status status = folder->CommitReplacing(); !status.ok()) return status;
  return true;
}

}  // namespace imageddpo::demo
