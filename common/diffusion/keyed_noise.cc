#include "common/diffusion/keyed_noise.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/kernels/threads.h"

namespace imageddpo {
namespace {

uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }
uint64_t Join(uint32_t low, uint32_t high) { return static_cast<uint64_t>(high) << 32 | low; }

}  // namespace

std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;  // Golden ratio.
  constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1.
  auto [c0, c1, c2, c3] = counter;
  auto [k0, k1] = key;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * c0;
    const uint64_t product1 = kMultiplier1 * c2;
    c0 = High(product1) ^ c1 ^ k0;
    c1 = Low(product1);
    c2 = High(product0) ^ c3 ^ k1;
    c3 = Low(product0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

KeyedStream::KeyedStream(const StreamKey& key) {
  const std::array<uint32_t, 4> outer =
      Philox4x32({static_cast<uint32_t>(key.purpose), Low(key.epoch), High(key.epoch),
                  key.generation ^ (key.attempt << 16U)},
                 {Low(key.seed), High(key.seed)});
  // The outer call's upper half goes into the counter, so that no bit of it is lost.
  const std::array<uint32_t, 4> inner = Philox4x32(
      {Low(key.sample) ^ outer[2], High(key.sample) ^ outer[3], Low(key.step), High(key.step)},
      {outer[0], outer[1]});
  key_ = {inner[0], inner[1]};
  lane_ = {inner[2], inner[3]};
}

void KeyedStream::Refill() {
  words_ = Philox4x32({Low(block_), High(block_), lane_[0], lane_[1]}, key_);
  ++block_;
  used_ = 0;
}

uint32_t KeyedStream::NextUint32() {
  if (used_ == 4) Refill();
  return words_[used_++];
}

uint64_t KeyedStream::NextUint64() {
  const uint32_t low = NextUint32();
  return Join(low, NextUint32());
}

uint64_t KeyedStream::NextBelow(uint64_t n) {
  if (n == 0) throw std::invalid_argument("KeyedStream::NextBelow: n must be at least 1");
  // Draws from the incomplete last run of n values would favour small results: they are repeated.
  const uint64_t rejected = (0 - n) % n;  // 2^64 mod n
  for (;;) {
    const uint64_t draw = NextUint64();
    if (draw >= rejected) return draw % n;
  }
}

double KeyedStream::NextUniform() { return static_cast<double>(NextUint64() >> 11) * 0x1p-53; }

double KeyedStream::NextNormal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  // 1 - u lies in (0, 1], so that the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - NextUniform()));
  const double angle = kTwoPi * NextUniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_normal_ = true;
  return radius * std::cos(angle);
}

at::Tensor KeyedNormal(const StreamKey& key, at::IntArrayRef shape) {
  return KeyedNormals({key}, shape).squeeze(0);
}

at::Tensor KeyedNormals(const std::vector<StreamKey>& keys_B, at::IntArrayRef shape) {
  if (keys_B.empty()) throw std::invalid_argument("KeyedNormals: no keys");
  std::vector<int64_t> sizes = {static_cast<int64_t>(keys_B.size())};
  for (int64_t size : shape) {
    if (size < 0) {
      throw std::invalid_argument("KeyedNormal: negative dimension " + std::to_string(size));
    }
    sizes.push_back(size);
  }
  at::Tensor noise = at::empty(sizes, at::kFloat);
  const int64_t count = noise.numel() / sizes.front();
  float* const values = noise.mutable_data_ptr<float>();
  ParallelFor(sizes.front(), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      KeyedStream stream(keys_B[static_cast<size_t>(b)]);
      float* const out = values + b * count;
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(stream.NextNormal());
    }
  });
  return noise;
}

std::vector<int64_t> KeyedPermutation(const StreamKey& key, int64_t n) {
  if (n < 0) throw std::invalid_argument("KeyedPermutation: n is " + std::to_string(n));
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  KeyedStream stream(key);
  for (int64_t last = n - 1; last > 0; --last) {
    std::swap(order[last], order[stream.NextBelow(static_cast<uint64_t>(last) + 1)]);
  }
  return order;
}

}  // namespace imageddpo
