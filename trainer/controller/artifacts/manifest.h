#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

inline constexpr char kManifestName[] = "MANIFEST";

/// The content of a checkpoint's MANIFEST. It is written last, so a directory with a valid MANIFEST
/// had all its files at that time.
struct Manifest {
  struct File {
    uint64_t size_bytes = 0;
    std::string sha256;  ///< 64 lower-case hexadecimal digits.
  };
  int64_t epoch = 0;
  std::map<std::string, File> files;  ///< By name.

  void Add(const std::string& name, std::string_view bytes);

  std::string ToJson() const;
  /// @return DATA_LOSS naming the problem; UNIMPLEMENTED for a newer format.
  static absl::StatusOr<Manifest> FromJson(std::string_view text);

  /// DATA_LOSS: the file is not listed, or its bytes differ from those that were written.
  absl::Status Check(const std::string& name, std::string_view bytes) const;
};

}  // namespace imageddpo
