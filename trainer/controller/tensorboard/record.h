#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace imageddpo {

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4). Debian 12 has no library with it that is made to
/// be linked, and a table of 256 entries is fast enough for what a job writes.
uint32_t Crc32c(std::string_view bytes);

/// A record of a TFRecord file, which is a sequence of them: the length of `data` as 8 bytes, the
/// masked CRC of these, `data`, its masked CRC; all little-endian. The mask is
/// ((crc >> 15) | (crc << 17)) + 0xa282ead8 (tensorflow/core/lib/hash/crc32c.h).
std::string TfRecord(std::string_view data);

}  // namespace imageddpo
