#include "common/metrics/gpu_sensors.h"

#include <gtest/gtest.h>

namespace imageddpo {
namespace {

TEST(GpuSensors, ReadTheGpuOfTheBusId) {
  const auto sensors = GpuSensors::Load("0000:1B:00.0", FAKE_NVML);
  ASSERT_NE(sensors, nullptr);
  const GpuSensors::Reading reading = sensors->Read();
  EXPECT_DOUBLE_EQ(reading.power_watts.value(), 312.5);
  EXPECT_DOUBLE_EQ(reading.busy_ratio.value(), 0.87);
  EXPECT_EQ(reading.used_bytes.value(), int64_t{60} << 30);
}

TEST(GpuSensors, WhatAGpuDoesNotMeasureIsNotSet) {
  const auto sensors = GpuSensors::Load("0000:1C:00.0", FAKE_NVML);
  ASSERT_NE(sensors, nullptr);
  const GpuSensors::Reading reading = sensors->Read();
  EXPECT_FALSE(reading.power_watts.has_value());
  EXPECT_FALSE(reading.busy_ratio.has_value());
  EXPECT_EQ(reading.used_bytes.value(), int64_t{1} << 30);
}

TEST(GpuSensors, AreMissingWithoutTheLibraryOrTheGpu) {
  EXPECT_EQ(GpuSensors::Load("0000:1B:00.0", "libnvidia-ml-that-is-nowhere.so.1"), nullptr);
  EXPECT_EQ(GpuSensors::Load("0000:1B:00.0", "libc.so.6"), nullptr) << "it has no such calls";
  EXPECT_EQ(GpuSensors::Load("0000:FF:00.0", FAKE_NVML), nullptr);
  EXPECT_EQ(GpuSensors::Load("", FAKE_NVML), nullptr) << "the CPU";
}

}  // namespace
}  // namespace imageddpo
