#pragma once

// What the kernels of this folder are written in: a small part of CUDA C++ which the C++ compiler
// reads too, where tests/testing/gpu defines its few words. NVRTC compiles the files of this folder
// one behind the other, so they include nothing. They are read and written as float32, whatever the
// element.

struct Bf16 {
  unsigned short bits;
};

template <typename T>
struct alignas(kPack * sizeof(T)) Pack {
  T values[kPack];
};

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(Bf16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

__device__ inline void Round(float value, float* to) { *to = value; }
/// To the nearest, ties to even, as libtorch does; what is no number stays none.
__device__ inline void Round(float value, Bf16* to) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<unsigned short>(value != value ? 0x7fc0u : rounded);
}
