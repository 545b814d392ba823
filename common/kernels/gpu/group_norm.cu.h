#pragma once

// Group norm over channels-last memory, [sample, position, channel], with or without SiLU behind
// it: two kernels. Threads stand side by side on channels, so that a warp reads what lies side by
// side. All sums have one order, which depends on the number of positions and not on the batch.

/// blockIdx.x is a chunk of `chunk` positions (the last may have fewer), blockIdx.y the sample.
/// @param moments  [samples, chunks, groups, 2]: of the chunk's values of a group the mean, and the
///                 sum of the squares of what they differ from it by.
template <typename T>
__device__ void GroupMoments(const T* x, float* moments, int positions, int channels, int groups,
                             int chunk) {
  __shared__ float sums[kMostNormChannels];
  __shared__ float means[kMostNormGroups];
  const int begin = blockIdx.x * chunk;
  const int count = positions - begin < chunk ? positions - begin : chunk;
  const int width = channels / groups;
  const T* from = x + (1LL * blockIdx.y * positions + begin) * channels;
  float* to = moments + (1LL * blockIdx.y * gridDim.x + blockIdx.x) * groups * 2;

  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    float sum = 0.0f;
    for (int p = 0; p < count; ++p) sum += ToFloat(from[1LL * p * channels + c]);
    sums[c] = sum;
  }
  __syncthreads();
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float sum = 0.0f;
    for (int i = 0; i < width; ++i) sum += sums[g * width + i];
    means[g] = sum / static_cast<float>(count * width);
    to[2 * g] = means[g];
  }
  __syncthreads();
  // The chunk is read again, from the cache: a sum of squares without the mean would lose digits.
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    const float mean = means[c / width];
    float sum = 0.0f;
    for (int p = 0; p < count; ++p) {
      const float difference = ToFloat(from[1LL * p * channels + c]) - mean;
      sum += difference * difference;
    }
    sums[c] = sum;
  }
  __syncthreads();
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float sum = 0.0f;
    for (int i = 0; i < width; ++i) sum += sums[g * width + i];
    to[2 * g + 1] = sum;
  }
}

/// out = act((x − mean) / sqrt(variance + eps) · weight + bias), the chunks' moments merged as Chan
/// et al. do (1979). The grid as above.
/// @param chunks  of the moments; blocks here may take another number of positions, `rows`.
/// @param silu    0: without.
template <typename T>
__device__ void GroupApply(const T* x, const float* moments, const T* weight, const T* bias, T* out,
                           int positions, int channels, int groups, int chunk, int chunks, int rows,
                           float eps, int silu) {
  __shared__ float means[kMostNormGroups];
  __shared__ float inverses[kMostNormGroups];
  const int width = channels / groups;
  const float* of_sample = moments + 1LL * blockIdx.y * chunks * groups * 2;
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float mean = 0.0f, squares = 0.0f;
    for (int i = 0; i < chunks; ++i) {
      const int count = positions - i * chunk < chunk ? positions - i * chunk : chunk;
      mean += of_sample[2 * (i * groups + g)] * static_cast<float>(count);
    }
    mean /= static_cast<float>(positions);
    for (int i = 0; i < chunks; ++i) {
      const int count = positions - i * chunk < chunk ? positions - i * chunk : chunk;
      const float difference = of_sample[2 * (i * groups + g)] - mean;
      squares += of_sample[2 * (i * groups + g) + 1] +
                 difference * difference * static_cast<float>(count) * static_cast<float>(width);
    }
    means[g] = mean;
    inverses[g] =
        1.0f / sqrtf(squares / (static_cast<float>(positions) * static_cast<float>(width)) + eps);
  }
  __syncthreads();
  const int begin = blockIdx.x * rows;
  const int count = positions - begin < rows ? positions - begin : rows;
  const long long first = (1LL * blockIdx.y * positions + begin) * channels;
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    const float mean = means[c / width], shift = ToFloat(bias[c]);
    const float scale = inverses[c / width] * ToFloat(weight[c]);
    for (int p = 0; p < count; ++p) {
      const long long i = first + 1LL * p * channels + c;
      const float y = (ToFloat(x[i]) - mean) * scale + shift;
      Round(silu != 0 ? y / (1.0f + expf(-y)) : y, &out[i]);
    }
  }
}

extern "C" __global__ void group_moments_f32(const float* x, float* moments, int positions,
                                             int channels, int groups, int chunk) {
  GroupMoments(x, moments, positions, channels, groups, chunk);
}
extern "C" __global__ void group_moments_bf16(const Bf16* x, float* moments, int positions,
                                              int channels, int groups, int chunk) {
  GroupMoments(x, moments, positions, channels, groups, chunk);
}
extern "C" __global__ void group_apply_f32(const float* x, const float* moments,
                                           const float* weight, const float* bias, float* out,
                                           int positions, int channels, int groups, int chunk,
                                           int chunks, int rows, float eps, int silu) {
  GroupApply(x, moments, weight, bias, out, positions, channels, groups, chunk, chunks, rows, eps,
             silu);
}
extern "C" __global__ void group_apply_bf16(const Bf16* x, const float* moments, const Bf16* weight,
                                            const Bf16* bias, Bf16* out, int positions,
                                            int channels, int groups, int chunk, int chunks,
                                            int rows, float eps, int silu) {
  GroupApply(x, moments, weight, bias, out, positions, channels, groups, chunk, chunks, rows, eps,
             silu);
}
