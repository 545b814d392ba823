#pragma once

#include <cstdint>
#include <vector>

namespace imageddpo {

/// Which example the job's sample number n uses. Samples are counted over the whole job, and
/// group_size in a row are a group, which uses one example: group g = n / group_size. Group g falls
/// in pass g / dataset_size over the data, and each pass is a permutation of its own, shuffled by a
/// stream keyed by (seed, pass). So it depends neither on ranks, nor on the training epoch's size,
/// nor on where a job was resumed. Larger groups take the examples in the same order, each
/// group_size times. Thread-compatible: keeps the last pass's permutation.
class ExampleOrder {
 public:
  /// @throws std::invalid_argument  dataset_size or group_size < 1
  ExampleOrder(uint64_t seed, int64_t dataset_size, int64_t group_size = 1);

  /// @param sample_index  >= 0  @return 0 <= index < dataset_size
  int64_t operator()(int64_t sample_index);

 private:
  uint64_t seed_;
  int64_t dataset_size_;
  int64_t group_size_;
  int64_t pass_ = -1;
  std::vector<int64_t> permutation_;
};

/// The same for groups of one, as a pure function, O(dataset_size) a call.
int64_t ExampleIndex(uint64_t seed, int64_t sample_index, int64_t dataset_size);

}  // namespace imageddpo
