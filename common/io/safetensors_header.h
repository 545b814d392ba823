#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// Element types of the safetensors format that libtorch has too.
enum class SafetensorsDtype { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

size_t ElementSizeBytes(SafetensorsDtype dtype);
const char* DtypeName(SafetensorsDtype dtype);  ///< As in the file: "F32", "BOOL", …

struct SafetensorsEntry {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<int64_t>
      shape;         ///< Every size >= 0; the product of all non-zero sizes fits in int64.
  size_t begin = 0;  ///< Bytes from the start of the file, not of its data section.
  size_t size_bytes = 0;
};

/// A validated header: entries lie one after the other from the end of the header to the end of the
/// file.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  ///< In the order of their data.
  std::map<std::string, std::string> metadata;
};

/// Reads and checks the header of a whole file in memory: length field, JSON, duplicate names,
/// dtypes, shapes, and that the data section is covered exactly once (no overlap, no hole, nothing
/// beyond the end). Format: 8 bytes little-endian header length, JSON header, data
/// (github.com/huggingface/safetensors).
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file_bytes,
                                                         std::string_view name_for_errors);

/// The same of a file, of which nothing but the header is read.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const std::string& path);

/// Length field and JSON header, padded with spaces to a multiple of 8 bytes, for entries whose
/// data follow in the given order without gaps. `begin` is ignored.
absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header);

}  // namespace imageddpo
