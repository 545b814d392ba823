#include "rollout/data/corrupt/corrupt_random.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/io/file.h"

namespace imageddpo {

CorruptRandom::CorruptRandom(uint64_t seed, std::string_view kind, std::string_view id) {
  const std::string key = absl::StrCat(seed, "/", std::string(kind), "/", std::string(id));
  state_ = std::stoull(Sha256Hex(key).substr(0, 16), nullptr, 16);
}

uint64_t CorruptRandom::Next() {
  state_ += 0x9E3779B97F4A7C15U;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

double CorruptRandom::Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

int CorruptRandom::Integer(int low, int high) {
  return low + static_cast<int>(Next() % static_cast<uint64_t>(high - low));
}

double CorruptRandom::Normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  const double angle = 2.0 * M_PI * Uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

int CorruptRandom::Poisson(double mean) {
  const double limit = std::exp(-mean);
  int count = 0;
  for (double product = Uniform(); product > limit; product *= Uniform()) ++count;
  return count;
}

}  // namespace imageddpo
