#pragma once

#include <cstdint>
#include <string_view>

namespace imageddpo {

/// Random numbers of one image's corruption: a stream that its key alone decides (SplitMix64 from
/// a SHA-256 of the key).
class CorruptRandom {
 public:
  CorruptRandom(uint64_t seed, std::string_view kind, std::string_view id);

  uint64_t Next();
  double Uniform();  ///< In [0, 1), 53 bits.
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  int Integer(int low, int high);  ///< In [low, high).
  double Normal();                 ///< Mean 0, standard deviation 1 (Box and Muller).
  int Poisson(double mean);        ///< By products of uniforms (Knuth); mean up to 500.

 private:
  uint64_t state_;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace imageddpo
