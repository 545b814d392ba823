#pragma once

// low = x down^T, with x as the layer has it and the low-rank factor, sums and result in float32:
// no copy of x in float32, and x is read once for the stacked factors of several layers.

constexpr int kLowDepth = 32;  // How much of x's and down's rows a block holds at a time.
constexpr int kLowRowsOfThread = kLowRows * kLowOutputs / kLowThreads;

/// @param x     [rows, features], contiguous; blockIdx.x: the block of rows.
/// @param down  [outputs, features]; blockIdx.y: the block of outputs.
/// @param low   [rows, outputs]
template <typename T>
__device__ void LoraDown(const T* x, const float* down, float* low, int rows, int features,
                         int outputs) {
  // Rows of `down` lie a pack further apart, so that the threads of a warp reach other banks.
  __shared__ Pack<float> x_tile[kLowRows][kLowDepth / kPack];
  __shared__ Pack<float> down_tile[kLowOutputs][kLowDepth / kPack + 1];
  const int first_row = blockIdx.x * kLowRows, first_output = blockIdx.y * kLowOutputs;
  const int output = threadIdx.x % kLowOutputs;
  const int row = threadIdx.x / kLowOutputs * kLowRowsOfThread;
  float sums[kLowRowsOfThread];
  for (int j = 0; j < kLowRowsOfThread; ++j) sums[j] = 0.0f;

  for (int begin = 0; begin < features; begin += kLowDepth) {
    for (int i = threadIdx.x; i < kLowRows * kLowDepth; i += kLowThreads) {
      const int r = i / kLowDepth, k = i % kLowDepth;
      const bool inside = first_row + r < rows && begin + k < features;
      x_tile[r][k / kPack].values[k % kPack] =
          inside ? ToFloat(x[1LL * (first_row + r) * features + begin + k]) : 0.0f;
    }
    for (int i = threadIdx.x; i < kLowOutputs * kLowDepth; i += kLowThreads) {
      const int o = i / kLowDepth, k = i % kLowDepth;
      const bool inside = first_output + o < outputs && begin + k < features;
      down_tile[o][k / kPack].values[k % kPack] =
          inside ? down[1LL * (first_output + o) * features + begin + k] : 0.0f;
    }
    __syncthreads();
    for (int k = 0; k < kLowDepth / kPack; ++k) {
      const Pack<float> w = down_tile[output][k];
      for (int j = 0; j < kLowRowsOfThread; ++j) {
        const Pack<float> v = x_tile[row + j][k];
        for (int l = 0; l < kPack; ++l) sums[j] += v.values[l] * w.values[l];
      }
    }
    __syncthreads();
  }
  if (first_output + output >= outputs) return;
  for (int j = 0; j < kLowRowsOfThread && first_row + row + j < rows; ++j) {
    low[1LL * (first_row + row + j) * outputs + first_output + output] = sums[j];
  }
}

extern "C" __global__ void lora_down_f32(const float* x, const float* down, float* low, int rows,
                                         int features, int outputs) {
  LoraDown(x, down, low, rows, features, outputs);
}
extern "C" __global__ void lora_down_bf16(const Bf16* x, const float* down, float* low, int rows,
                                          int features, int outputs) {
  LoraDown(x, down, low, rows, features, outputs);
}
