#include "trainer/controller/jobs/device_batch.h"

#include "common/config/job_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Topology kOne = {.rollout = 1, .trainer = 1, .colocated = true};

/// As AdmitJob gives it: 16 samples an epoch and an update, the micro-batch not chosen yet.
ResolvedJob Admitted(const std::string& more = "") {
  return *ResolvedJob::Make(*ParseJobYaml(
      "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: compressibility}]\n"
      "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 16, "
      "num_batches_per_epoch: 1}\ntrain: {batch_size: 16, update: replay}\n" +
          more,
      "job.yaml"));
}

/// 1 GB of weights, and as much for the activations of each sample; a tenth with checkpointing.
ModelCount Model() {
  ModelCount model;
  model.unet = {.parameters = 0.25e9,
                .lora_parameters = 1000,
                .saved_values = 0.25e9,
                .recomputed_values = 0.025e9,
                .live_values = 1e5};
  model.latent_channels = 1;
  model.latent = {2, 2};
  model.image = {1, 1};
  return model;
}

struct Result {
  absl::Status status;
  v1::JobSpec job;
  std::vector<std::string> warnings;
};

Result Resolve(const ResolvedJob& job, double gigabytes, int64_t most = kMostSamplesOnCpu,
               const Topology& topology = kOne) {
  Result result;
  const auto chosen =
      ChooseMicroBatch(job, topology, Model(), {.share = gigabytes * 1e9, .most = gigabytes * 1e9},
                       most, &result.warnings);
  result.status = chosen.status();
  if (chosen.ok()) result.job = chosen->spec();
  return result;
}

TEST(ChooseMicroBatch, TakesTheLargestWhereItFits) {
  const Result result = Resolve(Admitted(), 100);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.job.device().device_batch_size(), 16);
  EXPECT_EQ(result.job.eval().batch_size(), 16);
  EXPECT_THAT(result.warnings, IsEmpty());
}

TEST(ChooseMicroBatch, TakesTheLargestWhereNothingIsKnown) {
  std::vector<std::string> warnings;
  const auto job = ChooseMicroBatch(Admitted(), kOne, {}, {.share = 1, .most = 1}, 32, &warnings);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->spec().device().device_batch_size(), 16);
  EXPECT_EQ(job->spec().train().gradient_shards(), 1) << "stored with the job";
  EXPECT_EQ(Resolve(Admitted(), 0).job.device().device_batch_size(), 16);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(ChooseMicroBatch, TakesLessWhereMemoryIsShort) {
  // 80% of 8 GB hold 0.5 GB of the process, 1 GB of weights and 4 samples.
  const Result result = Resolve(Admitted(), 8);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.job.device().device_batch_size(), 4);
  EXPECT_EQ(result.job.eval().batch_size(), 4);
  EXPECT_THAT(result.warnings,
              ElementsAre(AllOf(HasSubstr("device_batch_size: 16"), HasSubstr("17.5 GB of 6.4 GB"),
                                HasSubstr("it is 4"))));
  EXPECT_EQ(Resolve(Admitted("device: {gradient_checkpointing: true}"), 8)
                .job.device()
                .device_batch_size(),
            16);
}

TEST(ChooseMicroBatch, OneIsTriedWithoutMargin) {
  const Result result = Resolve(Admitted(), 2.6);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.job.device().device_batch_size(), 1);
}

TEST(ChooseMicroBatch, RefusesWhatNoMicroBatchMakesFit) {
  const Result result = Resolve(Admitted(), 2);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.status.message()),
              AllOf(HasSubstr("2.5 GB on a rank"), HasSubstr("has 2.0 GB"),
                    HasSubstr("`device.gradient_checkpointing: true` (1.6 GB)"),
                    HasSubstr("`model.precision: bf16` (1.5 GB)"), HasSubstr("data.resolution")));
}

TEST(ChooseMicroBatch, ANumberThatIsGivenStays) {
  const ResolvedJob job = Admitted("device: {device_batch_size: 8}\neval: {batch_size: 5}");
  const Result fits = Resolve(job, 20);
  EXPECT_EQ(fits.job.device().device_batch_size(), 8);
  EXPECT_EQ(fits.job.eval().batch_size(), 5);
  EXPECT_THAT(fits.warnings, IsEmpty());
  const Result tight = Resolve(job, 2);
  EXPECT_TRUE(tight.status.ok());
  EXPECT_EQ(tight.job.device().device_batch_size(), 8);
  EXPECT_THAT(tight.warnings, ElementsAre(HasSubstr("9.5 GB of 2.0 GB that it has")));
}

TEST(ChooseMicroBatch, AGpuTakesMoreAndEveryRankHasWork) {
  const auto job = [](int64_t samples) {
    return *Admitted().With([&](v1::JobSpec* spec) {
      spec->mutable_sample()->set_batch_size(samples);
      spec->mutable_train()->set_batch_size(samples);
    });
  };
  EXPECT_EQ(Resolve(job(256), 0, kMostSamplesOnCpu).job.device().device_batch_size(), 32);
  EXPECT_EQ(Resolve(job(256), 0, kMostSamplesOnGpu).job.device().device_batch_size(), 128);
  const Topology four = {.rollout = 4, .trainer = 4, .colocated = true};
  EXPECT_EQ(Resolve(job(256), 0, kMostSamplesOnGpu, four).job.device().device_batch_size(), 64);
}

TEST(MemoryOfRank, IsThatOfTheWorkerWithLeast) {
  Scheduler scheduler({1, 2, 3});
  const auto report = [&](int rank, const char* host, const char* device, int64_t host_bytes,
                          int64_t device_bytes) {
    v1::Hello hello;
    hello.set_hostname(host);
    hello.set_device(device);
    hello.set_cores(4);
    hello.set_host_memory_bytes(host_bytes);
    hello.set_device_memory_bytes(device_bytes);
    scheduler.WorkerReported(rank, hello);
  };
  EXPECT_EQ(scheduler.MemoryOfRank(1).share, 0);
  report(1, "a", "cpu", 8000, 0);
  report(2, "a", "cpu", 8000, 0);
  EXPECT_FALSE(scheduler.OnGpus());
  EXPECT_EQ(scheduler.MemoryOfRank(1).share, 4000);
  EXPECT_EQ(scheduler.MemoryOfRank(1).most, 8000);
  EXPECT_EQ(scheduler.MemoryOfRank(2).most, 4000);
  report(3, "b", "cuda:0", 9000, 3000);
  EXPECT_FALSE(scheduler.OnGpus()) << "not all of them";
  EXPECT_EQ(scheduler.MemoryOfRank(2).share, 3000);
  EXPECT_EQ(scheduler.MemoryOfRank(1).most, 3000);
}

}  // namespace
}  // namespace imageddpo
