// Whole small jobs on the devices that stand in for GPUs: nothing of a job touches a device's
// memory from the host, mixes devices or reads what has not arrived, the numbers are the CPU's but
// for rounding, and the host waits for a device no more often than is written here.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/job_config.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "deploy/imageddpod/device.h"
#include "tests/dist/job_runner.h"
#include "tests/testing/device/test_device.h"
#include "tests/testing/judged.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class DeviceJobs : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    UseTestDevices();
    dir_ = new TempDir();
    at::manual_seed(5);
    for (int i = 0; i < 10; ++i) {
      const at::Tensor image = at::rand({3, 4, 4}).repeat_interleave(8, 1).repeat_interleave(8, 2);
      dir_->Write(absl::StrCat(i < 8 ? "train/" : "held-out/", i, ".png"),
                  *EncodePng(TensorToImage(image)));
    }
  }
  static void TearDownTestSuite() {
    delete dir_;
    dir_ = nullptr;
  }

  static v1::JobSpec Job(const std::string& more) {
    const char* source = std::getenv("IMAGEDDPO_SOURCE_DIR");
    v1::JobSpec job = *ParseJobYaml(
        "seed: 3\n"
        "num_epochs: 2\n"
        "rewards: [{type: image_stat, measure: saturation}, {type: l1, weight: -1}]\n"
        "eval: {every_epochs: 2, batch_size: 1, num_pictures: 0}\n"
        "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 8,\n"
        "         num_batches_per_epoch: 1}\n"
        "train: {batch_size: 8, learning_rate: 0.001, clip_range: 0.001}\n"
        "advantage: {mode: per_key, buffer_size: 4, min_count: 2}\n"
        "checkpoint: {every_epochs: 1}\n"
        "device: {device_batch_size: 2, num_threads: 1}\n",
        "job.yaml");
    job.MergeFrom(*ParseJobYaml(more, "more.yaml"));
    job.mutable_model()->set_path(absl::StrCat(source ? source : ".", "/deploy/demo/tiny-sd"));
    job.mutable_data()->set_path(*dir_ / "train");
    job.mutable_eval()->set_path(*dir_ / "held-out");
    return Judged(job).spec();
  }

  static JobOutcome OnDevices(const v1::JobSpec& job, const Topology& topology,
                              const v1::Checkpoint* resume_from = nullptr) {
    return RunOnThreads(job, topology, resume_from, {TestDevice(0), TestDevice(1)});
  }

  /// The kernels are the CPU's, but the CPU has ways of its own for convolutions and attention. The
  /// first update's numbers differ by their rounding, later ones by what grows from it.
  static void ExpectClose(const JobOutcome& outcome, const JobOutcome& cpu) {
    ASSERT_EQ(outcome.rows.size(), cpu.rows.size());
    const auto row = nlohmann::json::parse(outcome.rows[0]),
               expected = nlohmann::json::parse(cpu.rows[0]);
    for (const char* key : {"reward_mean", "reward_std", "grad_norm"}) {
      const double value = expected[key].get<double>();
      EXPECT_NEAR(row[key].get<double>(), value, 1e-3 * std::abs(value)) << key;
    }
    EXPECT_LE(row["ratio_first_step_max_error"].get<double>(), 1e-4);
    EXPECT_NE(outcome.rows.back(), outcome.rows.front());
  }

  /// On one device, on two with a part each, and from its middle on the other: the same bits.
  static JobOutcome ExpectTheCpusNumbers(const v1::JobSpec& job, const Topology& other) {
    const JobOutcome cpu = RunOnThreads(job, Colocated(1));
    JobOutcome alone = OnDevices(job, Colocated(1));
    ExpectClose(alone, cpu);
    const JobOutcome parts = OnDevices(job, other);
    EXPECT_EQ(parts.rows, alone.rows);
    EXPECT_TRUE(parts == alone) << other.ToString();
    const JobOutcome resumed =
        RunOnThreads(job, Colocated(1), &alone.checkpoints.at(1), {TestDevice(1)});
    EXPECT_EQ(resumed.rows.back(), alone.rows.back());
    EXPECT_EQ(resumed.checkpoints.at(2).SerializeAsString(),
              alone.checkpoints.at(2).SerializeAsString());
    return alone;
  }

  static TempDir* dir_;
};
TempDir* DeviceJobs::dir_ = nullptr;

TEST_F(DeviceJobs, WorkersTakeTheDevicesInOrder) {
  EXPECT_EQ(DeviceKind(), kTestDeviceName);
  EXPECT_EQ(ChooseDevice(0), TestDevice(0));
  EXPECT_EQ(ChooseDevice(3), TestDevice(1));
  const size_t before = LimitMemory(TestDevice(1), 1 << 20);
  EXPECT_EQ(DeviceMemoryBytes(TestDevice(1)), 1 << 20);
  LimitMemory(TestDevice(1), before);
  EXPECT_EQ(DeviceMemoryBytes(at::kCPU), 0);
}

TEST_F(DeviceJobs, ADeviceWorksUntilItsCallsFail) {
  const at::Device device = TestDevice(1);
  EXPECT_TRUE(DeviceWorks(at::kCPU));
  EXPECT_TRUE(DeviceWorks(device));
  const size_t before = LimitMemory(device, 0);
  EXPECT_TRUE(DeviceWorks(device)) << "without free memory";
  LimitMemory(device, before);
  const at::Tensor y = at::zeros({4}, device);
  y.copy_(at::ones({4}), /*non_blocking=*/true);  // Its source is gone when it runs.
  EXPECT_FALSE(DeviceWorks(device));
  EXPECT_TRUE(DeviceWorks(device)) << "a test device forgets its error, a GPU does not";
}

TEST_F(DeviceJobs, Replay) { ExpectTheCpusNumbers(Job("train: {update: replay}"), Split(1, 1)); }

TEST_F(DeviceJobs, SinglePass) {
  ExpectTheCpusNumbers(Job("train: {update: single_pass}\ntopology: {colocated: 1}"), Colocated(2));
}

TEST_F(DeviceJobs, GuidanceWithCheckpointingAnd8BitMoments) {
  ExpectTheCpusNumbers(Job("sample: {guidance_scale: 5}\n"
                           "train: {update: replay, optimizer: adamw8bit, min_8bit_size: 0}\n"
                           "device: {gradient_checkpointing: true}\n"),
                       Split(1, 1));
}

TEST_F(DeviceJobs, SamplingRunsAhead) {
  ExpectTheCpusNumbers(Job("sample: {max_staleness: 1}"), Split(1, 1));
}

TEST_F(DeviceJobs, OutOfMemoryEndsAJobAndNotTheNextOne) {
  const v1::JobSpec job = Job("train: {update: replay}");
  const JobOutcome before = OnDevices(job, Colocated(1));
  const size_t limit = LimitMemory(TestDevice(0), 1 << 20);
  JobOutcome outcome;
  const absl::Status status = TryOnThreads(job, Colocated(1), nullptr, {TestDevice(0)}, &outcome);
  LimitMemory(TestDevice(0), limit);
  EXPECT_THAT(std::string(status.message()), HasSubstr("out of memory")) << status;
  EXPECT_EQ(CountersOf(TestDevice(0)).allocated_bytes, 0) << "its memory is free again";
  EXPECT_EQ(OnDevices(job, Colocated(1)).rows, before.rows);
}

constexpr char kReplay[] = "train: {update: replay}";
constexpr char kSinglePass[] = "train: {update: single_pass}\ntopology: {colocated: 1}";

/// A line that tests/bench reads.
void PrintForTheBench(const char* update, const DeviceCounters& counters) {
  std::printf("device_counters %s %s\n", update,
              absl::StrJoin({counters.launches, counters.synchronisations, counters.h2d_bytes,
                             counters.d2h_bytes, counters.allocations},
                            " ")
                  .c_str());
}

/// What one more epoch costs: a job of three epochs without one of two, the same but for that.
DeviceCounters AnEpoch(v1::JobSpec job) {
  const at::Device device = TestDevice(0);
  job.mutable_eval()->set_every_epochs(0);
  DeviceCounters jobs[2];
  for (const int epochs : {2, 3}) {
    job.set_num_epochs(epochs);
    const DeviceCounters before = CountersOf(device);
    RunOnThreads(job, Colocated(1), nullptr, {device});
    jobs[epochs - 2] = CountersOf(device).Since(before);
  }
  EXPECT_EQ(jobs[1].allocated_bytes, jobs[0].allocated_bytes) << "an epoch leaves memory behind";
  return jobs[1].Since(jobs[0]);
}

TEST_F(DeviceJobs, AnEpochWaitsForTheDeviceThisOften) {
  const DeviceCounters replay = AnEpoch(Job(kReplay)), single = AnEpoch(Job(kSinglePass));
  // Four micro-batches of two steps, an update, a publication, a checkpoint. A wait for each
  // micro-batch that is sampled; for the update's statistics (replay), for its gradient's norm and
  // for how far it moved the LoRA; two for the publication, whose sender and receiver each take the
  // hash of what they have; three for the checkpoint: LoRA, moments, hash. The bounds may only
  // become smaller.
  EXPECT_LE(replay.synchronisations, 4 + 3 + 2 + 3) << replay.ToString();
  EXPECT_LE(single.synchronisations, 4 + 2 + 2 + 3) << single.ToString();
  // Six times the LoRA, then images and log-probabilities, and what is replayed.
  EXPECT_LE(replay.d2h_bytes, 390'000) << replay.ToString();
  EXPECT_LE(single.d2h_bytes, 365'000) << single.ToString();
}

TEST_F(DeviceJobs, AMicroBatchWaitsForTheDeviceOnce) {
  for (const bool is_replay : {true, false}) {
    const std::string update = is_replay ? "train: {update: replay" : "train: {update: single_pass";
    const std::string rest = is_replay ? "}\n" : "}\ntopology: {colocated: 1}\n";
    const DeviceCounters four = AnEpoch(Job(update + rest));
    const DeviceCounters eight = AnEpoch(
        Job(absl::StrCat(update, ", batch_size: 16", rest, "sample: {num_batches_per_epoch: 2}")));
    const DeviceCounters more = eight.Since(four);
    PrintForTheBench(is_replay ? "replay" : "single_pass", more);
    EXPECT_LE(more.synchronisations, 4) << update << ": " << more.ToString();
    // Of eight samples: images, log-probabilities; in a replay latents and statistics too.
    const int64_t images = 8 * 3 * 32 * 32 * 4, log_probs = 8 * 2 * 4;
    const int64_t latents = 8 * 3 * 4 * 8 * 8 * 4, statistics = 4 * 2 * 14 * 8;
    EXPECT_LE(more.d2h_bytes, images + log_probs + (is_replay ? latents + statistics : 0))
        << update << ": " << more.ToString();
  }
}

}  // namespace
}  // namespace imageddpo
