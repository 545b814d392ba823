#include "deploy/demo/idx_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace imageddpo::demo {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
constexpr int64_t kMaxElements = int64_t{1} << 30;  // far above MNIST's 47 million
constexpr size_t kChunkBytes = size_t{1} << 20;

struct CloseGzip {
  void operator()(gzFile_s* file) const { gzclose(file); }
};
using GzipFile = std::unique_ptr<gzFile_s, CloseGzip>;

absl::Status Truncated(const std::filesystem::path& path, const char* part) {
  return absl::DataLossError(absl::StrCat(path.string(), ": the file ends in its ", part,
                                          "; it is truncated or damaged: reinstall the data set"));
}

/// Fills `out` or says why not; `part` names what was being read.
absl::Status ReadExactly(gzFile_s* file, const std::filesystem::path& path, const char* part,
                         std::span<uint8_t> out) {
  while (!out.empty()) {
    const auto chunk = static_cast<unsigned>(std::min(out.size(), kChunkBytes));
    const int count = gzread(file, out.data(), chunk);
    if (count <= 0) return Truncated(path, part);
    out = out.subspan(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

/// After the last element: the end of the data, with the compression's checksum intact.
absl::Status ExpectEnd(gzFile_s* file, const std::filesystem::path& path) {
  uint8_t extra = 0;
  const int count = gzread(file, &extra, 1);
  int code = Z_OK;
  gzerror(file, &code);
  if (count < 0 || code == Z_BUF_ERROR || code == Z_DATA_ERROR) return Truncated(path, "checksum");
  if (count > 0) {
    return absl::DataLossError(
        absl::StrCat(path.string(), ": holds more data than its header announces"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<IdxArray> ReadIdxFile(const std::filesystem::path& path, int dimensions) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(path.string(), ": no such file"));
  }
  const GzipFile file(gzopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path.string(), ": cannot open"));

  std::array<uint8_t, 4> magic{};
  if (absl::Status status = ReadExactly(file.get(), path, "header", magic); !status.ok()) {
    return status;
  }
  if (magic[0] != 0 || magic[1] != 0 || magic[2] != kUnsignedByte || magic[3] != dimensions) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), ": not an idx file of unsigned bytes with ", dimensions,
                     dimensions == 1 ? " dimension" : " dimensions"));
  }

  IdxArray array;
  int64_t count = 1;
  for (int axis = 0; axis < dimensions; ++axis) {
    std::array<uint8_t, 4> bytes{};
    if (absl::Status status = ReadExactly(file.get(), path, "header", bytes); !status.ok()) {
      return status;
    }
    int64_t size = 0;
    for (const uint8_t byte : bytes) size = size * 256 + byte;
    if (size != 0 && count > kMaxElements / size) {
      return absl::InvalidArgumentError(
          absl::StrCat(path.string(), ": announces more than ", kMaxElements, " elements"));
    }
    array.sizes.push_back(size);
    count *= size;
  }
  array.values.resize(static_cast<size_t>(count));
  if (absl::Status status = ReadExactly(file.get(), path, "data", array.values); !status.ok()) {
    return status;
  }
  if (absl::Status status = ExpectEnd(file.get(), path); !status.ok()) return status;
  return array;
}

}  // namespace imageddpo::demo
