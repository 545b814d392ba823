#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// What MANIFEST says of a checkpoint: it is written last, so a directory that has a valid one once
/// had all its files.
struct Manifest {
  struct File {
    uint64_t size_bytes = 0;
    std::string sha256;  ///< 64 lower-case hexadecimal digits.
  };
  int64_t epoch = 0;
  std::map<std::string, File> files;  ///< By name.

  void Add(const std::string& name, std::string_view bytes);

  std::string ToJson() const;
  /// @return DATA_LOSS saying what is wrong; UNIMPLEMENTED for a newer format.
  static absl::StatusOr<Manifest> FromJson(std::string_view json);

  /// DATA_LOSS: the file is not listed, or its bytes are not those that were written.
  absl::Status Check(const std::string& name, std::string_view bytes) const;
};

}  // namespace imageddpo
