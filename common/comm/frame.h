#pragma once

#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// How a message travels whose `bytes` fields may be large (checkpoints, LoRAs, pictures). Protobuf
/// serialises no more than 2 GiB, so these fields follow the message as blobs, with a CRC-32 for
/// each chunk:
///
///   8 bytes    size of the head, little-endian
///   FrameHead  the message without the blobs, and their places, sizes and checksums
///   blobs      one after the other, in the head's order
struct FrameLimits {
  /// `bytes` fields of at least this size become blobs.
  std::size_t blob_bytes = 4096;
  /// Of the head. Protobuf's own limit is the largest.
  std::size_t max_head_bytes = INT32_MAX;
  std::size_t chunk_bytes = std::size_t{16} << 20;
};

/// @param message  is emptied of its blobs.
/// @return RESOURCE_EXHAUSTED: the message is too large even without them.
absl::StatusOr<std::string> ToFrame(google::protobuf::Message* message,
                                    const FrameLimits& limits = {});

/// @return DATA_LOSS: it is no frame of such a message, or bytes differ from those that were sent;
///         says which.
absl::Status FromFrame(std::string_view frame, google::protobuf::Message* message);

}  // namespace imageddpo
