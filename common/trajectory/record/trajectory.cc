#include "common/trajectory/record/trajectory.h"

namespace imageddpo {

uint64_t HashTokens(const std::vector<int64_t>& token_ids) {
  uint64_t hash = 14695981039346656037ull;
  for (const int64_t id : token_ids) {
    for (int shift = 0; shift < 64; shift += 8) {
      hash ^= (static_cast<uint64_t>(id) >> shift) & 0xff;
      hash *= 1099511628211ull;
    }
  }
  return hash;
}

}  // namespace imageddpo
