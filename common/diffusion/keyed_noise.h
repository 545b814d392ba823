#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace imageddpo {

/// What a random stream is used for. The numbers enter every draw: never renumber or reuse one.
enum class StreamPurpose : uint32_t {
  kDatasetOrder = 1,  ///< The order of the images in one pass; `epoch` is the pass.
  kEncodeNoise = 2,   ///< The VAE posterior's sample.
  kInitNoise = 3,     ///< The noise that is added to the encoded image.
  kStepNoise = 4,     ///< The noise of one DDIM step.
  kShuffle = 5,       ///< The order of micro-batches within an inner epoch.
  kLoraInit = 6,      ///< Initial LoRA weights; `sample` numbers the tensor.
  kEvalNoise =
      7,  ///< All noise of the evaluation on held-out images; `epoch` tells its uses apart.
  kTrainedSteps = 8,  ///< Which steps of a micro-batch are trained; `sample` is its first one.
  kSftTimestep = 9,   ///< The noise level of a target image (train.objective: sft).
};

/// Identifies one random stream. Equal keys give the same numbers on every rank, in every process
/// and at any time. So ranks, threads and order of arrival must never be part of a key.
struct StreamKey {
  uint64_t seed = 0;  ///< The job's seed; for kEvalNoise, eval.seed plus the seed's index.
  StreamPurpose purpose = StreamPurpose::kDatasetOrder;
  uint64_t epoch = 0;
  uint64_t sample = 0;
  uint64_t step = 0;
  /// Of the noise of training: how often the job was taken back by a guard (guards.rollbacks).
  /// Below 2^16, as the next.
  uint32_t generation = 0;
  /// Of the noise of training: how often the sample was drawn before (advantage.zero_std resample).
  uint32_t attempt = 0;
};

/// Philox4x32-10: ten rounds of the counter-based generator of Salmon, Moraes, Dror and Shaw,
/// "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A bijection of the 128-bit counter for
/// each 64-bit key.
std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key);

/// A stream of random numbers that is a pure function of its key. The key's fields are folded into
/// 128 bits by two Philox calls; these bits are the key and the upper half of the counter, the
/// lower half counts blocks. Cheap to construct (two Philox calls). Thread-compatible: one instance
/// per thread.
class KeyedStream {
 public:
  explicit KeyedStream(const StreamKey& key);

  uint32_t NextUint32();
  uint64_t NextUint64();
  /// Uniform on {0, …, n-1}, without bias.
  /// @throws std::invalid_argument  n is 0.
  uint64_t NextBelow(uint64_t n);
  /// Uniform on [0, 1), 53 random bits.
  double NextUniform();
  /// Standard normal, by Box and Muller's transform in double; draws come in pairs.
  double NextNormal();

 private:
  void Refill();

  std::array<uint32_t, 2> key_{};
  std::array<uint32_t, 2> lane_{};
  uint64_t block_ = 0;
  std::array<uint32_t, 4> words_{};
  int used_ = 4;
  bool has_spare_normal_ = false;
  double spare_normal_ = 0.0;
};

/// Standard normal noise: element i is the i-th NextNormal() of the stream, rounded to float32.
/// @return  contiguous float32 CPU tensor of `shape`.
/// @throws std::invalid_argument  a negative dimension.
at::Tensor KeyedNormal(const StreamKey& key, at::IntArrayRef shape);

/// KeyedNormal() of each key, stacked: [B, shape], with the same bits. The streams are drawn in
/// parallel, on the threads that libtorch's kernels use.
/// @throws std::invalid_argument  a negative dimension; no keys.
at::Tensor KeyedNormals(const std::vector<StreamKey>& keys_B, at::IntArrayRef shape);

/// A uniformly random permutation of 0 … n-1 (Fisher and Yates).
/// @throws std::invalid_argument  n is negative.
std::vector<int64_t> KeyedPermutation(const StreamKey& key, int64_t n);

}  // namespace imageddpo
