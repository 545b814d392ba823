#include "common/diffusion/keyed_noise.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace imageddpo {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, KnownAnswers) {  // Of the authors' Random123 library.
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

StreamKey Key(uint64_t seed = 7, StreamPurpose purpose = StreamPurpose::kStepNoise,
              uint64_t epoch = 3, uint64_t sample = 5, uint64_t step = 2) {
  return {seed, purpose, epoch, sample, step};
}

TEST(KeyedStream, IsAFunctionOfEveryFieldOfTheKey) {
  constexpr uint64_t kHighBit = uint64_t{1} << 40;
  const StreamKey keys[] = {
      Key(),
      Key(8),
      Key(7 + kHighBit),
      Key(7, StreamPurpose::kInitNoise),
      Key(7, StreamPurpose::kStepNoise, 4),
      Key(7, StreamPurpose::kStepNoise, 3 + kHighBit),
      Key(7, StreamPurpose::kStepNoise, 3, 6),
      Key(7, StreamPurpose::kStepNoise, 3, 5 + kHighBit),
      Key(7, StreamPurpose::kStepNoise, 3, 5, 3),
      Key(7, StreamPurpose::kStepNoise, 3, 5, 2 + kHighBit),
      Key(7, StreamPurpose::kStepNoise, 3, 2, 5),  // Fields swapped.
      Key(3, StreamPurpose::kStepNoise, 7, 5, 2),
      {7, StreamPurpose::kStepNoise, 3, 5, 2, /*generation=*/1},
      {7, StreamPurpose::kStepNoise, 3, 5, 2, /*generation=*/0, /*attempt=*/1},
  };
  std::set<uint64_t> first_draws;
  for (const StreamKey& key : keys) {
    first_draws.insert(KeyedStream(key).NextUint64());
    EXPECT_EQ(KeyedStream(key).NextUint64(), KeyedStream(key).NextUint64());
  }
  EXPECT_EQ(first_draws.size(), std::size(keys));
}

TEST(KeyedStream, StaysTheSameFromReleaseToRelease) {
  // A change here changes every job's result: resumed jobs would no longer continue their streams.
  KeyedStream stream(Key());
  EXPECT_EQ(stream.NextUint32(), 1438243727u);
  EXPECT_EQ(stream.NextUint64(), 2691921386043421673u);
  EXPECT_DOUBLE_EQ(stream.NextUniform(), 0.49344540636335843);
  EXPECT_NEAR(stream.NextNormal(), -0.21599519770082884, 1e-14);
  EXPECT_NEAR(stream.NextNormal(), 1.4309861592457516, 1e-14);
  EXPECT_EQ(KeyedPermutation(Key(), 8), (std::vector<int64_t>{3, 6, 0, 2, 5, 4, 1, 7}));
}

TEST(KeyedStream, NextBelowIsUniformAndInRange) {
  KeyedStream stream(Key());
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) ++counts[stream.NextBelow(6)];
  for (int count : counts) EXPECT_NEAR(count, 10000, 400);
  EXPECT_EQ(stream.NextBelow(1), 0u);
  EXPECT_LT(stream.NextBelow(~uint64_t{0}), ~uint64_t{0});
  EXPECT_THROW(stream.NextBelow(0), std::invalid_argument);
}

TEST(KeyedNormal, HasTheMomentsAndTailsOfANormal) {
  const at::Tensor noise = KeyedNormal(Key(), {4, 256, 256});
  ASSERT_EQ(noise.sizes(), at::IntArrayRef({4, 256, 256}));
  ASSERT_EQ(noise.scalar_type(), at::kFloat);
  ASSERT_TRUE(noise.is_contiguous());
  const at::Tensor x = noise.to(at::kDouble).flatten();
  EXPECT_NEAR(x.mean().item<double>(), 0.0, 0.01);
  EXPECT_NEAR(x.var().item<double>(), 1.0, 0.01);
  EXPECT_NEAR(x.pow(3).mean().item<double>(), 0.0, 0.03);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3.0, 0.06);
  EXPECT_NEAR((x.abs() > 1.96).to(at::kDouble).mean().item<double>(), 0.05, 0.002);
  const at::Tensor pairs = (x.slice(0, 0, x.numel() - 1) * x.slice(0, 1)).mean();
  EXPECT_NEAR(pairs.item<double>(), 0.0, 0.01);
}

TEST(KeyedNormal, IsItsStreamWhateverTheShape) {
  const at::Tensor flat = KeyedNormal(Key(), {24});
  EXPECT_TRUE(at::equal(KeyedNormal(Key(), {2, 3, 4}).flatten(), flat));
  EXPECT_TRUE(at::equal(KeyedNormal(Key(), {7}), flat.slice(0, 0, 7)));
  KeyedStream stream(Key());
  EXPECT_EQ(flat[0].item<float>(), static_cast<float>(stream.NextNormal()));
  EXPECT_EQ(KeyedNormal(Key(), {0, 4}).numel(), 0);
  EXPECT_EQ(KeyedNormal(Key(), {}).dim(), 0);
  EXPECT_THROW(KeyedNormal(Key(), {2, -1}), std::invalid_argument);
}

TEST(KeyedNormal, ManyStreamsHaveTheBitsOfEach) {
  std::vector<StreamKey> keys(7, Key());
  std::vector<at::Tensor> each;
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i].sample = i;
    each.push_back(KeyedNormal(keys[i], {3, 5}));
  }
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    EXPECT_TRUE(at::equal(KeyedNormals(keys, {3, 5}), at::stack(each))) << count << " threads";
  }
  at::set_num_threads(threads);
  EXPECT_THROW(KeyedNormals({}, {3}), std::invalid_argument);
}

TEST(KeyedPermutation, HoldsEveryIndexOnce) {
  for (int64_t n : {0, 1, 2, 17, 1000}) {
    std::vector<int64_t> order = KeyedPermutation(Key(), n);
    std::sort(order.begin(), order.end());
    ASSERT_EQ(static_cast<int64_t>(order.size()), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(order[i], i);
  }
  EXPECT_THROW(KeyedPermutation(Key(), -1), std::invalid_argument);
}

TEST(KeyedPermutation, IsUniform) {
  std::map<std::vector<int64_t>, int> counts;
  for (uint64_t seed = 0; seed < 12000; ++seed) {
    ++counts[KeyedPermutation(Key(seed, StreamPurpose::kShuffle), 3)];
  }
  ASSERT_EQ(counts.size(), 6u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 2000, 200);
}

}  // namespace
}  // namespace imageddpo
