// What version 0.1.0 stored (tests/data/version-0.1.0) opens in this one and goes on: the job
// store, the job's settings, and a checkpoint in the middle of a job with 8-bit moments, statistics
// by image and a LoRA version of an earlier epoch.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "common/io/file.h"
#include "common/io/file_system.h"
#include "common/io/safetensors.h"
#include "tests/dist/job_runner.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/artifacts/checkpoint_store.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {
namespace {

constexpr int64_t kStoredEpoch = 2, kEpochs = 4;

std::string SourceDir() {
  const char* source = std::getenv("IMAGEDDPO_SOURCE_DIR");
  return source ? source : ".";
}
std::string StoredDir() { return SourceDir() + "/tests/data/version-0.1.0"; }

/// The job as it was stored, with the paths of this machine.
v1::JobSpec StoredJob() {
  v1::JobSpec job = *ParseJobYaml(*ReadFile(StoredDir() + "/job.yaml"), "job.yaml");
  job.mutable_model()->set_path(SourceDir() + "/deploy/demo/tiny-sd");
  job.mutable_data()->set_path(StoredDir() + "/images");
  return job;
}

v1::Checkpoint StoredCheckpoint(const std::string& folder) {
  PosixFileSystem file_system;
  CheckpointStore store(file_system, folder);
  EXPECT_TRUE(store.Open().ok());
  const auto found = store.Newest();
  EXPECT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->warnings.empty());
  EXPECT_TRUE(found->checkpoint.has_value());
  return *found->checkpoint;
}

at::Tensor Flat(const std::string& lora_bytes) {
  std::vector<at::Tensor> parts;
  const TensorMap tensors = *ParseSafetensors(lora_bytes, "LoRA");
  for (const auto& [name, tensor] : tensors) {
    parts.push_back(tensor.to(at::kDouble).flatten());
  }
  return at::cat(parts);
}

TEST(EarlierVersion, ItsJobStoreOpens) {
  TempDir dir;
  std::filesystem::copy(StoredDir() + "/jobs.db", dir / "jobs.db");
  const auto store = JobStore::Open(dir.path());
  ASSERT_TRUE(store.ok()) << store.status();
  const auto record = (*store)->Get("job-000001");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->job.state(), v1::SUCCEEDED);
  const auto job = ResolvedJob::Reopen(record->job.spec());
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->plan().gradient_shards, 8) << "as many as it had, not as many as today";
}

TEST(EarlierVersion, ItsCheckpointGoesOn) {
  TempDir dir;
  std::filesystem::copy(StoredDir() + "/checkpoints", dir / "checkpoints",
                        std::filesystem::copy_options::recursive);
  const v1::Checkpoint stored = StoredCheckpoint(dir / "checkpoints");
  ASSERT_EQ(stored.epoch(), kStoredEpoch);
  const JobOutcome outcome = RunOnThreads(StoredJob(), Split(1, 1), &stored);
  ASSERT_EQ(outcome.rows.size(), kEpochs - kStoredEpoch) << "one update an epoch";
  ASSERT_TRUE(outcome.checkpoints.contains(kEpochs));

  // On another processor rewards differ by a few bytes of a JPEG, and with them the update; a
  // moment, a statistic or a version that was not taken over would change it altogether.
  const at::Tensor before = Flat(stored.lora());
  const at::Tensor here = Flat(outcome.checkpoints.at(kEpochs).lora()) - before;
  const at::Tensor there =
      Flat(*ReadFile(StoredDir() + "/result/lora-after-4-epochs.safetensors")) - before;
  const double cosine = (here * there).sum().item<double>() /
                        (here.norm().item<double>() * there.norm().item<double>());
  RecordProperty("cosine", absl::StrCat(cosine));
  EXPECT_GT(cosine, 0.9);
  EXPECT_NEAR(here.norm().item<double>() / there.norm().item<double>(), 1, 0.1);
}

}  // namespace
}  // namespace imageddpo
