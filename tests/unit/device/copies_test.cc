// Copies between host and device: for which the host waits, and how often.

#include "common/device/copies.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/testing/device/test_device.h"

namespace imageddpo {
namespace {

class Copies : public testing::Test {
 protected:
  Copies() { UseTestDevices(); }

  /// How often `work` waits for the first device.
  template <typename Work>
  static int64_t Waits(Work work) {
    const DeviceCounters before = CountersOf(TestDevice(0));
    work();
    return CountersOf(TestDevice(0)).Since(before).synchronisations;
  }

  const at::Device device_ = TestDevice(0);
};

TEST_F(Copies, TheHostDoesNotWaitOnTheWayToTheDevice) {
  const at::Tensor source = at::arange(6, at::kFloat).view({2, 3});
  at::Tensor moved;
  EXPECT_EQ(Waits([&] {
              moved = MoveTo(source, device_);
              source.fill_(-1);  // Was copied before MoveTo() returned.
            }),
            0);
  EXPECT_EQ(moved.device(), device_);
  EXPECT_TRUE(at::equal(moved.cpu(), at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_TRUE(MoveTo(moved, device_).is_same(moved));
  EXPECT_TRUE(MoveTo(source, at::kCPU).is_same(source));
  EXPECT_EQ(MoveTo(at::empty({0, 3}), device_).sizes(), at::IntArrayRef({0, 3}));
}

TEST_F(Copies, ManyTensorsAreReadWithOneWait) {
  const at::Tensor host = at::ones({2});
  const std::vector<at::Tensor> sources = {at::arange(4, at::kFloat).to(device_),
                                           host,
                                           {},
                                           at::ones({2, 3}, at::kDouble).to(device_).t(),
                                           at::ones({3}, device_) > 0};
  std::vector<at::Tensor> read;
  EXPECT_EQ(Waits([&] { read = ReadTogether(sources); }), 1);
  ASSERT_EQ(read.size(), sources.size());
  EXPECT_TRUE(at::equal(read[0], at::arange(4, at::kFloat)));
  EXPECT_TRUE(read[1].is_same(host));
  EXPECT_FALSE(read[2].defined());
  EXPECT_TRUE(at::equal(read[3], at::ones({3, 2}, at::kDouble)));
  EXPECT_TRUE(read[3].is_contiguous());
  EXPECT_TRUE(read[4].all().item<bool>());
}

TEST_F(Copies, WhatIsOnTheHostIsNotWaitedFor) {
  const std::map<std::string, at::Tensor> named = {{"a", at::ones({2})}, {"b", at::zeros({1})}};
  EXPECT_EQ(Waits([&] { EXPECT_TRUE(ReadTogether(named).at("b").is_same(named.at("b"))); }), 0);
  const std::map<std::string, at::Tensor> mixed = {{"a", named.at("a").to(device_)},
                                                   {"b", named.at("b")}};
  EXPECT_EQ(Waits([&] { EXPECT_TRUE(at::equal(ReadTogether(mixed).at("a"), named.at("a"))); }), 1);
}

}  // namespace
}  // namespace imageddpo
