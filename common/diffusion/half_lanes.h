#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "common/diffusion/lanes.h"

// Vectors of half precision and of 16 bits, for inner loops of our own on processors that compute
// in half precision (HasHalfArithmetic()). For .cc files that are compiled with the options of
// KERNEL_SOURCES.

namespace imageddpo {

constexpr int kHalfLanes = 32;
using Halves [[gnu::vector_size(64)]] = _Float16;  ///< kHalfLanes of them.
using Words [[gnu::vector_size(64)]] = uint32_t;   ///< kLanes of them, as of the next.
using ShortWords [[gnu::vector_size(32)]] = uint16_t;
using Quads [[gnu::vector_size(32)]] = uint64_t;

template <class Vector>
IMAGEDDPO_INLINE Vector Load(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <class Vector>
IMAGEDDPO_INLINE void Store(const Vector& vector, void* to) {
  std::memcpy(to, &vector, sizeof(vector));
}

/// As RunKernel(). Only where HasHalfArithmetic().
template <class Kernel>
[[gnu::target("avx512fp16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]] void RunHalf(
    const Kernel& kernel) {
  kernel();
}

// GCC 12 converts vectors of half precision value by value.
IMAGEDDPO_INLINE Lanes ToFloat(const ShortWords& half) {
  Lanes values;
  asm("vcvtph2ps %1, %0" : "=v"(values) : "v"(half));
  return values;
}

/// Rounded to nearest.
IMAGEDDPO_INLINE ShortWords ToHalf(const Lanes& values) {
  ShortWords half;
  asm("vcvtps2ph $0, %1, %0" : "=v"(half) : "v"(values));
  return half;
}

IMAGEDDPO_INLINE Words Widened(const ShortWords& words) {
  return __builtin_convertvector(words, Words);
}

/// Each value in both halves of a lane, as rows of a product are read.
IMAGEDDPO_INLINE Words Twice(const ShortWords& words) {
  const Words wide = Widened(words);
  return wide | wide << 16;
}

/// Of bfloat16's bits, without the sign; one in each lane.
constexpr uint32_t kMagnitude = 0x7FFF;

IMAGEDDPO_INLINE uint32_t Largest(const Words& words) {
  uint32_t largest = 0;
  for (int lane = 0; lane < kLanes; ++lane) largest = std::max(largest, words[lane]);
  return largest;
}

/// One step of a transposition: of each two vectors `kStep` apart, the upper lanes of every
/// 2 · kStep of the first change places with the lower ones of the second.
template <int kStep>
IMAGEDDPO_INLINE void Exchange(Words (&v)[kLanes]) {
  constexpr auto kSource = [](bool second) {
    std::array<uint32_t, kLanes> lanes = {};
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const bool upper = (lane & kStep) != 0;
      lanes[lane] = (upper ? kLanes + lane - kStep : lane) + (second ? kStep : 0);
    }
    return lanes;
  };
  constexpr std::array<uint32_t, kLanes> kFirst = kSource(false), kSecond = kSource(true);
  const Words first = Load<Words>(kFirst.data()), second = Load<Words>(kSecond.data());
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const Words a = v[i], b = v[i + kStep];
    v[i] = __builtin_shuffle(a, b, first);
    v[i + kStep] = __builtin_shuffle(a, b, second);
  }
}

/// Transposes kLanes × kLanes values.
IMAGEDDPO_INLINE void Transpose(Words (&v)[kLanes]) {
  Exchange<1>(v);
  Exchange<2>(v);
  Exchange<4>(v);
  Exchange<8>(v);
}

/// What values are multiplied by to be in half precision's range, a power of two, and what undoes
/// it.
struct Scale {
  float factor, inverse;
};

/// For values of which the largest has these bits: they become less than 2^exponent, or stay as
/// they are where one is not finite.
inline Scale ScaleOf(uint32_t largest_bfloat16, int exponent) {
  constexpr int kBias = 127, kInfinite = 255;
  int from = static_cast<int>(largest_bfloat16 >> 7);
  if (from == kInfinite) return {1, 1};
  from = std::max(from, exponent + 1);  // The factor is no more than 2^126.
  const auto power = [](int e) {
    const uint32_t bits = static_cast<uint32_t>(e + kBias) << 23;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  };
  const int shift = exponent - (from - kBias + 1);
  return {power(shift), power(-shift)};
}

}  // namespace imageddpo
