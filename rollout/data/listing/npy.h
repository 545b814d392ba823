#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/image.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {

/// The header of a NumPy array file: format versions 1 to 3, C order.
struct NpyHeader {
  std::string dtype;           ///< As NumPy writes it: "|u1", "<i8".
  std::vector<int64_t> shape;  ///< Every number is at least 0.
  int64_t data_begin = 0;      ///< Where the values begin, in bytes.
};

/// INVALID_ARGUMENT naming the file where it is no such file or shorter than its shape says.
absl::StatusOr<NpyHeader> ReadNpyHeader(const std::string& path);

/// Picture `row` of an array [N,H,W,3] of uint8. Reads that picture alone.
absl::StatusOr<Image> ReadNpyImage(const std::string& path, int64_t row);

/// The pictures of an array file, as CIFAR-10-C has them: labels from labels.npy in the same
/// folder, one for each picture; ids NAME.npy/ROW. Where the file's name is a corruption of
/// ImageNet-C and N is divisible by five, the fifths are its severities 1 to 5 (metadata).
/// @param severity  1 to 5: that fifth alone, under the ids that it has among all; 0: all.
/// @return INVALID_ARGUMENT naming the file where it holds something else, or where a severity is
///         asked for and N is not divisible by five.
absl::StatusOr<Listing> ListNpy(const std::string& path, int severity = 0);

}  // namespace imageddpo
