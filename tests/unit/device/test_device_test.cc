// What the devices of tests/testing/device must catch and count: each rule with something planted
// that breaks it.

#include "tests/testing/device/test_device.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace imageddpo {
namespace {

using testing::HasSubstr;

class Device : public testing::Test {
 protected:
  Device() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    UseTestDevices();
    at::manual_seed(1);
  }
  ~Device() override {
    for (int i = 0; i < kNumTestDevices; ++i) at::accelerator::synchronizeDevice(i);
  }

  /// What `work` does on the first device.
  template <typename Work>
  static DeviceCounters Counted(Work work) {
    const DeviceCounters before = CountersOf(TestDevice(0));
    work();
    return CountersOf(TestDevice(0)).Since(before);
  }

  static std::string ErrorOf(const std::function<void()>& work) {
    try {
      work();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  }

  const at::Device device_ = TestDevice(0);
  const at::Device other_ = TestDevice(1);
};

TEST_F(Device, IsTheAccelerator) {
  EXPECT_EQ(at::getAccelerator(), at::kPrivateUse1);
  EXPECT_EQ(at::accelerator::deviceCount(), kNumTestDevices);
  EXPECT_EQ(at::Device("testdevice:1"), other_);
  EXPECT_EQ(device_.str(), "testdevice:0");
  EXPECT_EQ(at::ones({2}, other_).device(), other_);
  const size_t before = LimitMemory(device_, 1 << 20);
  EXPECT_EQ(at::accelerator::getMemoryInfo(0).second, size_t{1} << 20);
  LimitMemory(device_, before);
}

TEST_F(Device, TheHostCannotTouchItsMemory) {
  const at::Tensor x = at::ones({4}, device_);
  EXPECT_DEATH([[maybe_unused]] const volatile float value = *x.const_data_ptr<float>(), "");
  EXPECT_DEATH(*x.mutable_data_ptr<float>() = 2, "");
  EXPECT_EQ(x.sum().item<float>(), 4);
}

TEST_F(Device, FreshMemoryIsNotZero) {
  EXPECT_TRUE(at::empty({3}, device_).isnan().all().item<bool>());
}

TEST_F(Device, ComputesWhatTheCpuDoes) {
  const at::Tensor a = at::randn({2, 6, 8}), b = at::randn({8, 5});
  const auto compute = [](const at::Tensor& x, const at::Tensor& y) {
    const at::Tensor z = at::silu(x.matmul(y)).transpose(1, 2).contiguous().add_(0.5);
    return at::cat({z.softmax(-1), z.select(1, 0).unsqueeze(1).exp()}, 1).narrow(1, 1, 3);
  };
  const at::Tensor on_device = compute(a.to(device_), b.to(device_));
  EXPECT_EQ(on_device.device(), device_);
  EXPECT_TRUE(at::equal(on_device.cpu(), compute(a, b)));
}

TEST_F(Device, ViewsShareMemoryAndOutputsGrow) {
  const at::Tensor x = at::zeros({4, 3}, device_);
  x.view({12}).narrow(0, 3, 3).fill_(1);
  x.unfold(0, 2, 2).select(0, 1).add_(2);
  EXPECT_EQ(x.sum().item<float>(), 3 + 2 * 6);
  at::Tensor out = at::empty({0}, device_);
  at::add_out(out, x, x);
  EXPECT_TRUE(at::equal(out.cpu(), 2 * x.cpu()));
  const at::Tensor wide = at::ones({2}, device_);
  wide.resize_({2, 2});
  EXPECT_EQ(wide.cpu().narrow(0, 0, 1).sum().item<float>(), 2);
}

TEST_F(Device, GradientsAreTheCpus) {
  const at::Tensor x = at::randn({2, 4, 6, 6}), w = at::randn({8, 4, 3, 3}), b = at::randn({8}),
                   gamma = at::randn({8}), q = at::randn({8, 8});
  const auto gradients = [&](at::Device device) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& tensor : {x, w, b, gamma, q}) {
      leaves.push_back(tensor.detach().to(device, at::kFloat, false, /*copy=*/true));
      leaves.back().requires_grad_();
    }
    at::Tensor y = at::conv2d(leaves[0], leaves[1], leaves[2], 1, 1);
    y = at::group_norm(y, 2, leaves[3], std::nullopt);
    at::Tensor rows =
        at::layer_norm(y.flatten(2).transpose(1, 2), {8}, leaves[3]).matmul(leaves[4]);
    rows =
        at::scaled_dot_product_attention(rows.unsqueeze(1), rows.unsqueeze(1), rows.unsqueeze(1));
    at::upsample_nearest2d(rows, at::IntArrayRef({72, 16})).pow(2).mean().backward();
    for (at::Tensor& leaf : leaves) leaf = leaf.grad().cpu();
    return leaves;
  };
  const auto on_device = gradients(device_), on_cpu = gradients(at::kCPU);
  for (size_t i = 0; i < on_cpu.size(); ++i) {
    // Attention is composed differently, and differs in rounding.
    EXPECT_LE((on_device[i] - on_cpu[i]).abs().max().item<float>(),
              1e-4 * on_cpu[i].abs().max().item<float>())
        << i;
  }
}

TEST_F(Device, OperandsOfAnotherDeviceAreRefused) {
  const at::Tensor x = at::ones({2}, device_), y = at::ones({2}, other_), host = at::ones({2});
  EXPECT_THAT(ErrorOf([&] { x + y; }), HasSubstr("testdevice:1"));
  EXPECT_THAT(ErrorOf([&] { x + y.select(0, 0); }), HasSubstr("testdevice:1"));
  EXPECT_THAT(ErrorOf([&] { x.add_(host); }), HasSubstr("cpu"));
  EXPECT_THAT(ErrorOf([&] { at::cat({x, host}); }), HasSubstr("cpu"));
  EXPECT_THAT(ErrorOf([&] { x.index({at::ones({1}, at::kLong)}); }), HasSubstr("cpu"));
  const at::Tensor image = at::ones({1, 1, 3, 3}, device_);
  EXPECT_THAT(ErrorOf([&] { at::conv2d(image, at::ones({1, 1, 3, 3})); }), HasSubstr("cpu"));
  EXPECT_EQ((x + host.select(0, 0)).sum().item<float>(), 4) << "a number may be the CPU's";
  EXPECT_EQ((x + y.to(device_)).sum().item<float>(), 4) << "a copy between devices is none";
}

TEST_F(Device, ALateCopyReadsItsSourceWhenItRuns) {
  const at::Tensor source = at::ones({3});
  const at::Tensor x = source.to(device_, /*non_blocking=*/true);
  EXPECT_EQ(NumPending(device_), 1U);
  source.fill_(7);
  EXPECT_EQ(x.sum().item<float>(), 21);
  EXPECT_EQ(NumPending(device_), 0U);
}

TEST_F(Device, ALateCopyToTheHostHasNotArrived) {
  const at::Tensor x = at::ones({3}, device_), host = at::zeros({3});
  host.copy_(x, /*non_blocking=*/true);
  EXPECT_EQ(host.sum().item<float>(), 0);
  x.fill_(5);  // A kernel that changes what is still to be copied comes after the copy.
  EXPECT_EQ(host.sum().item<float>(), 3);
  host.copy_(x, /*non_blocking=*/true);
  at::accelerator::synchronizeDevice(0);
  EXPECT_EQ(host.sum().item<float>(), 15);
}

TEST_F(Device, AFreedSourceIsAnErrorUnlessItIsPinned) {
  at::Tensor x = at::ones({3}).to(device_, /*non_blocking=*/true);
  EXPECT_THAT(ErrorOf([&] { x + 1; }), HasSubstr("had been freed"));
  x = at::ones({3}).pin_memory().to(device_, /*non_blocking=*/true);
  EXPECT_EQ(x.sum().item<float>(), 3);
  const at::Tensor kept = at::ones({3}).pin_memory();
  EXPECT_TRUE(kept.is_pinned());
  EXPECT_FALSE(at::ones({3}).is_pinned());
}

TEST_F(Device, ATargetThatIsFreedFirstIsStillCopiedTo) {
  const at::Tensor source = at::ones({3});
  at::Tensor x = source.to(device_, /*non_blocking=*/true);
  x.reset();
  EXPECT_EQ(NumPending(device_), 0U);
}

TEST_F(Device, AStreamWaitsForAnotherOnlyIfItIsTold) {
  const at::Tensor source = at::ones({3});
  const c10::Stream side = c10::impl::VirtualGuardImpl(device_.type()).getNewStream(device_);
  at::Tensor x;
  c10::Event event(device_.type());
  {
    const c10::StreamGuard guard(side);
    x = source.to(device_, /*non_blocking=*/true);
    event.record(side);
  }
  EXPECT_THAT(ErrorOf([&] { x + 1; }), HasSubstr("has not waited"));
  event.block(at::accelerator::getCurrentStream(0));
  EXPECT_EQ(x.sum().item<float>(), 3);
}

TEST_F(Device, EventsAreDoneLate) {
  const at::Tensor source = at::ones({3});
  const at::Tensor x = source.to(device_, /*non_blocking=*/true);
  c10::Event event(device_.type());
  event.record(at::accelerator::getCurrentStream(0));
  EXPECT_FALSE(event.query());
  EXPECT_FALSE(event.query());
  EXPECT_TRUE(event.query()) << "polling ends";
  event.record(at::accelerator::getCurrentStream(0));
  EXPECT_EQ(Counted([&] { event.synchronize(); }).synchronisations, 1);
  EXPECT_TRUE(event.query());
}

TEST_F(Device, CountsWhatTheHostWaitsFor) {
  const at::Tensor x = at::ones({4}, device_), source = at::ones({4}), pinned = source.pin_memory();
  at::Tensor y;
  const auto waits = [](const auto& work) { return Counted(work).synchronisations; };
  EXPECT_EQ(waits([&] { y = x * 2 + at::scalar_tensor(1); }), 0);
  EXPECT_EQ(waits([&] { y.copy_(pinned, /*non_blocking=*/true); }), 0);
  EXPECT_EQ(waits([&] { y.copy_(source); }), 1);
  EXPECT_EQ(waits([&] { y.cpu(); }), 1);
  EXPECT_EQ(waits([&] { y.sum().item(); }), 1);
  EXPECT_EQ(waits([&] { at::equal(x, y); }), 1);
  EXPECT_EQ(waits([&] { y.masked_select(y > 0); }), 1);
  EXPECT_EQ(waits([&] { y.index({y > 0}); }), 1);
  EXPECT_EQ(waits([&] { y.nonzero(); }), 1);
  EXPECT_EQ(waits([&] { at::accelerator::synchronizeDevice(0); }), 1);
  EXPECT_EQ(Counted([&] { at::ones({2}, other_).sum().item(); }).synchronisations, 0)
      << "of the other device";
}

TEST_F(Device, CountsLaunchesBytesAndAllocations) {
  const at::Tensor x = at::ones({4}, device_), source = at::ones({2, 3}, at::kDouble);
  const DeviceCounters kernels = Counted([&] { x.mul_(2).add_(x); });
  EXPECT_EQ(kernels.launches, 2) << kernels.ToString();
  EXPECT_EQ(kernels.allocations, 0);
  at::Tensor copy;
  const DeviceCounters up = Counted([&] { copy = source.to(device_); });
  EXPECT_EQ(up.h2d_bytes, 48);
  EXPECT_EQ(up.d2h_bytes, 0);
  EXPECT_EQ(up.launches, 0);
  EXPECT_EQ(up.allocations, 1);
  EXPECT_EQ(Counted([&] { copy.cpu(); }).d2h_bytes, 48);
  EXPECT_EQ(Counted([&] { copy.select(0, 0).select(0, 0).item(); }).d2h_bytes, 8);
  const int64_t held = CountersOf(device_).allocated_bytes;
  copy.reset();
  EXPECT_EQ(CountersOf(device_).allocated_bytes, held - 512) << "blocks are of 512 bytes";
  EXPECT_GE(CountersOf(device_).most_allocated_bytes, held);
}

TEST_F(Device, RunsOutOfMemoryWhereItIsTold) {
  FailAllocation(device_, 2);
  const at::Tensor first = at::ones({1}, device_);
  EXPECT_THROW(at::ones({1}, device_), c10::OutOfMemoryError);
  EXPECT_EQ(at::ones({1}, device_).item<float>(), 1);
  const size_t before = LimitMemory(device_, 0);
  EXPECT_THROW(at::ones({1}, device_), c10::OutOfMemoryError);
  LimitMemory(device_, before);
}

}  // namespace
}  // namespace imageddpo
