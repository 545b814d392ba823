#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace imageddpo {

/// SHA-256 of bytes that come in parts. Thread-compatible.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Add(std::string_view bytes);
  /// Of all bytes so far, as 64 lower-case hexadecimal digits. More may be added afterwards.
  std::string Hex() const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// Of a file's bytes, read a part at a time.
/// @param most_bytes  INVALID_ARGUMENT, before anything is read: the file is larger.
absl::StatusOr<std::string> FileSha256(const std::string& path, uintmax_t most_bytes = UINTMAX_MAX);

}  // namespace imageddpo
