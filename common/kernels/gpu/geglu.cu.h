#pragma once

/// out[n, d] = x[n, d] · gelu(x[n, width + d]) with gelu(v) = v Φ(v): one block for each row.
/// @param x    [rows, 2 · width], contiguous; width is a multiple of kPack.
/// @param out  [rows, width]
template <typename T>
__device__ void Geglu(const T* x, T* out, int width) {
  constexpr float kInverseSqrt2 = 0.70710678118654752f;
  const int packs = width / kPack;
  const Pack<T>* left = reinterpret_cast<const Pack<T>*>(x) + 2LL * blockIdx.x * packs;
  const Pack<T>* right = left + packs;
  Pack<T>* to = reinterpret_cast<Pack<T>*>(out) + 1LL * blockIdx.x * packs;
  for (int i = threadIdx.x; i < packs; i += blockDim.x) {
    const Pack<T> a = left[i], b = right[i];
    Pack<T> y;
    for (int j = 0; j < kPack; ++j) {
      const float gate = ToFloat(b.values[j]);
      const float gelu = gate * 0.5f * (1.0f + erff(gate * kInverseSqrt2));
      Round(ToFloat(a.values[j]) * gelu, &y.values[j]);
    }
    to[i] = y;
  }
}

extern "C" __global__ void geglu_f32(const float* x, float* out, int width) {
  Geglu(x, out, width);
}
extern "C" __global__ void geglu_bf16(const Bf16* x, Bf16* out, int width) { Geglu(x, out, width); }
