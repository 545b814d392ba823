#include "rollout/data/order.h"

#include <stdexcept>

#include "common/diffusion/keyed_noise.h"

namespace imageddpo {

ExampleOrder::ExampleOrder(uint64_t seed, int64_t dataset_size, int64_t group_size)
    : seed_(seed), dataset_size_(dataset_size), group_size_(group_size) {
  if (dataset_size < 1) throw std::invalid_argument("ExampleOrder: the dataset is empty");
  if (group_size < 1) throw std::invalid_argument("ExampleOrder: a group needs a sample");
}

int64_t ExampleOrder::operator()(int64_t sample_index) {
  if (sample_index < 0) throw std::invalid_argument("ExampleOrder: negative sample index");
  const int64_t group = sample_index / group_size_;
  const int64_t pass = group / dataset_size_;
  if (pass != pass_) {
    const StreamKey key{.seed = seed_,
                        .purpose = StreamPurpose::kDatasetOrder,
                        .epoch = static_cast<uint64_t>(pass)};
    permutation_ = KeyedPermutation(key, dataset_size_);
    pass_ = pass;
  }
  return permutation_[static_cast<size_t>(group % dataset_size_)];
}

int64_t ExampleIndex(uint64_t seed, int64_t sample_index, int64_t dataset_size) {
  return ExampleOrder(seed, dataset_size)(sample_index);
}

}  // namespace imageddpo
