/// Reading of MNIST's "idx" files, gzip-compressed or plain.
///
/// Layout (big-endian): two zero bytes, the element type (0x08 = unsigned byte), the number of
/// dimensions, one 32-bit size per dimension, then the elements row by row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo::demo {

/// An array of bytes as an idx file holds it.
struct IdxArray {
  std::vector<int64_t> sizes;   ///< one per dimension, outermost first; none negative
  std::vector<uint8_t> values;  ///< row-major; the product of `sizes` elements
};

/// Reads a whole idx file of unsigned bytes.
/// @return kNotFound        no such file
///         kDataLoss        cut short, damaged compression, or bytes left over
///         kInvalidArgument not an idx file of unsigned bytes with `dimensions` dimensions
absl::StatusOr<IdxArray> ReadIdxFile(const std::filesystem::path& path, int dimensions);

}  // namespace imageddpo::demo
