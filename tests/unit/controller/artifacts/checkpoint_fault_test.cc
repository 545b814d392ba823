// A crash or a full disk at every single step of every operation: whatever happens, the newest
// checkpoint found afterwards is one that was saved whole.

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/controller/jobs/checkpoints.h"
#include "trainer/controller/artifacts/checkpoint_store.h"

namespace imageddpo {
namespace {

using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using DiskFault = FaultyFileSystem::Fault;

/// Runs `operation` on a fresh store with checkpoints 10 and 20, once for every step at which it
/// may fail, and then `check` with a store on the sound disk and the operation's outcome.
void AtEveryStep(
    DiskFault fault, const std::function<absl::Status(CheckpointStore&)>& operation,
    const std::function<void(CheckpointStore&, const TempDir&, const absl::Status&)>& check) {
  int steps = 1;
  for (int fail_at = 0; fail_at <= steps; ++fail_at) {
    SCOPED_TRACE("failing at step " + std::to_string(fail_at) + " of " + std::to_string(steps));
    TempDir dir;
    PosixFileSystem sound;
    CheckpointStore before(sound, dir / "checkpoints");
    ASSERT_TRUE(before.Open().ok());
    ASSERT_TRUE(before.Save(CheckpointOf(10)).ok());
    ASSERT_TRUE(before.Save(CheckpointOf(20)).ok());

    FaultyFileSystem faulty(fault, fail_at);
    CheckpointStore store(faulty, dir / "checkpoints");
    const absl::Status outcome = operation(store);
    steps = std::max(steps, faulty.steps());

    CheckpointStore after(sound, dir / "checkpoints");
    ASSERT_TRUE(after.Open().ok());
    check(after, dir, outcome);
    for (const auto& entry : std::filesystem::directory_iterator(dir / "checkpoints")) {
      EXPECT_THAT(entry.path().filename().string(), testing::StartsWith("epoch-"));
    }
  }
  EXPECT_GT(steps, 2);  // The operation did touch the disk.
}

absl::Status Save30(CheckpointStore& store) { return store.Save(CheckpointOf(30)).status(); }
absl::Status Replace20(CheckpointStore& store) {
  return store.Save(CheckpointOf(20, "new")).status();
}
absl::Status Prune1(CheckpointStore& store) { return store.Prune(1); }

TEST(CheckpointFaults, CrashWhileSaving) {
  AtEveryStep(DiskFault::kCrash, Save30,
              [](CheckpointStore& store, const TempDir&, const absl::Status& outcome) {
                const auto found = store.Newest();
                ASSERT_TRUE(found.ok() && found->checkpoint.has_value());
                EXPECT_THAT(found->warnings, IsEmpty());  // Nothing half written ever had its name.
                const int64_t epoch = found->checkpoint->epoch();
                EXPECT_THAT(epoch, AnyOf(Eq(20), Eq(30)));
                if (outcome.ok()) {
                  EXPECT_EQ(epoch, 30);
                }
                EXPECT_EQ(found->checkpoint->SerializeAsString(),
                          CheckpointOf(epoch).SerializeAsString());
              });
}

TEST(CheckpointFaults, FullDiskWhileSaving) {
  int refused = 0;
  AtEveryStep(DiskFault::kDiskFull, Save30,
              [&](CheckpointStore& store, const TempDir&, const absl::Status& outcome) {
                const auto found = store.Newest();
                ASSERT_TRUE(found.ok() && found->checkpoint.has_value());
                EXPECT_THAT(found->warnings, IsEmpty());
                if (outcome.ok()) {
                  EXPECT_EQ(found->checkpoint->epoch(), 30);
                }
                if (absl::IsResourceExhausted(outcome)) {
                  ++refused;
                  EXPECT_EQ(found->checkpoint->epoch(), 20);
                  EXPECT_THAT(std::string(outcome.message()), HasSubstr("epoch 30"));
                }
              });
  EXPECT_GE(refused, 4);  // Every file's write, MANIFEST's too.
}

TEST(CheckpointFaults, CrashWhileReplacing) {
  AtEveryStep(DiskFault::kCrash, Replace20,
              [](CheckpointStore& store, const TempDir&, const absl::Status& outcome) {
                const auto found = store.Newest();
                ASSERT_TRUE(found.ok() && found->checkpoint.has_value());
                EXPECT_THAT(found->warnings, IsEmpty());
                const std::string bytes = found->checkpoint->SerializeAsString();
                EXPECT_THAT(bytes, AnyOf(Eq(CheckpointOf(10).SerializeAsString()),
                                         Eq(CheckpointOf(20).SerializeAsString()),
                                         Eq(CheckpointOf(20, "new").SerializeAsString())));
                if (outcome.ok()) {
                  EXPECT_EQ(bytes, CheckpointOf(20, "new").SerializeAsString());
                }
              });
}

TEST(CheckpointFaults, CrashWhilePruning) {
  AtEveryStep(DiskFault::kCrash, Prune1,
              [](CheckpointStore& store, const TempDir& dir, const absl::Status& outcome) {
                const auto found = store.Newest();
                ASSERT_TRUE(found.ok() && found->checkpoint.has_value());
                EXPECT_THAT(found->warnings, IsEmpty());
                EXPECT_EQ(found->checkpoint->epoch(), 20);
                if (outcome.ok()) {
                  EXPECT_FALSE(std::filesystem::exists(dir / "checkpoints/epoch-000010"));
                }
              });
}

}  // namespace
}  // namespace imageddpo
