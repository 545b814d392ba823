#include "rollout/data/order.h"

#include <stdexcept>

#include "common/diffusion/keyed_noise.h"

namespace imageddpo {

ExampleOrder::ExampleOrder(uint64_t seed, int64_t dataset_size)
    : seed_(seed), dataset_size_(dataset_size) {
  if (dataset_size < 1) throw std::invalid_argument("ExampleOrder: the dataset is empty");
}

int64_t ExampleOrder::operator()(int64_t sample_index) {
  if (sample_index < 0) throw std::invalid_argument("ExampleOrder: negative sample index");
  const int64_t pass = sample_index / dataset_size_;
  if (pass != pass_) {
    const StreamKey key{.seed = seed_,
                        .purpose = StreamPurpose::kDatasetOrder,
                        .epoch = static_cast<uint64_t>(pass)};
    permutation_ = KeyedPermutation(key, dataset_size_);
    pass_ = pass;
  }
  return permutation_[static_cast<size_t>(sample_index % dataset_size_)];
}

int64_t ExampleIndex(uint64_t seed, int64_t sample_index, int64_t dataset_size) {
  return ExampleOrder(seed, dataset_size)(sample_index);
}

}  // namespace imageddpo
