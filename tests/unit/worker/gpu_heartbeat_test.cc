#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <thread>

#include "common/base/clock.h"
#include "common/base/logging.h"
#include "common/comm/local_control_channel.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/worker/worker.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;

/// The stats of the first heartbeat of a worker with these sensors, or with none.
v1::RankStats FirstStats(const GpuSensors* sensors) {
  const SystemClock clock;
  LocalControlPlane plane{{1}};
  Worker::Options options;
  options.heartbeat_interval = milliseconds(100);
  options.lease_timeout = std::chrono::seconds(30);
  Worker worker({.channel = plane.worker(1),
                 .open_gang = [](const v1::GangLayout&) { return MakeSoloCommunicator(); },
                 .run_job = [](JobContext&) { return absl::OkStatus(); },
                 .device = at::kCPU,
                 .clock = clock,
                 .logger = *MakeLogger({.level = "off"}),
                 .sensors = sensors},
                options);
  std::thread thread([&worker] { worker.Run(); });
  v1::RankStats stats;
  bool heard = false;
  for (int i = 0; i < 100 && !heard; ++i) {
    const auto message = plane.controller().Receive(milliseconds(200));
    heard = message.has_value() && message->second.has_heartbeat();
    if (heard) stats = message->second.heartbeat().stats();
  }
  EXPECT_TRUE(heard);
  v1::ControllerMessage end;
  end.mutable_shutdown();
  plane.controller().Send(1, std::move(end));
  thread.join();
  return stats;
}

TEST(GpuHeartbeat, SaysWhatTheGpuMeasures) {
  const auto sensors = GpuSensors::Load("0000:1B:00.0", FAKE_NVML);
  ASSERT_NE(sensors, nullptr);
  const v1::RankStats stats = FirstStats(sensors.get());
  EXPECT_DOUBLE_EQ(stats.gpu_power_watts(), 312.5);
  EXPECT_DOUBLE_EQ(stats.gpu_busy_ratio(), 0.87);
  EXPECT_EQ(stats.gpu_used_bytes(), int64_t{60} << 30);
}

TEST(GpuHeartbeat, SaysNothingWithoutSensors) {
  const v1::RankStats stats = FirstStats(nullptr);
  EXPECT_GT(stats.resident_bytes(), 1 << 20);
  EXPECT_FALSE(stats.has_gpu_power_watts());
  EXPECT_FALSE(stats.has_gpu_busy_ratio());
  EXPECT_FALSE(stats.has_gpu_used_bytes());
}

}  // namespace
}  // namespace imageddpo
