#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "common/io/file.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Two files into a directory; `replace` says which commit is used.
absl::Status WriteBoth(FileSystem& disk, const std::string& path, const std::string& content,
                       bool replace) {
  auto directory = AtomicDirectory::Create(disk, path);
  if (!directory.ok()) return directory.status();
  if (absl::Status status = directory->Write("data", content); !status.ok()) return status;
  if (absl::Status status = directory->Write("MANIFEST", content); !status.ok()) return status;
  return replace ? directory->CommitReplacing() : directory->Commit();
}

/// What a reader finds: nothing, or the content of both files, which must agree.
std::optional<std::string> ReadBoth(const std::string& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto data = ReadFile(path + "/data");
  const auto manifest = ReadFile(path + "/MANIFEST");
  if (!data.ok() || !manifest.ok() || *data != *manifest) return "torn";
  return *data;
}

TEST(AtomicDirectoryTest, AppearsWithItsFiles) {
  const TempDir dir;
  PosixFileSystem disk;
  auto directory = AtomicDirectory::Create(disk, dir / "epoch/");
  ASSERT_TRUE(directory.ok()) << directory.status();
  ASSERT_TRUE(directory->Write("a", "1").ok());
  EXPECT_FALSE(std::filesystem::exists(dir / "epoch"));
  ASSERT_TRUE(directory->Commit().ok());
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("epoch"));
  EXPECT_EQ(dir.Read("epoch/a"), "1");
}

TEST(AtomicDirectoryTest, LeavesNothingWhenDropped) {
  const TempDir dir;
  PosixFileSystem disk;
  {
    auto directory = AtomicDirectory::Create(disk, dir / "epoch");
    ASSERT_TRUE(directory.ok());
    ASSERT_TRUE(directory->Write("a", "1").ok());
    const AtomicDirectory moved = *std::move(directory);
    EXPECT_TRUE(std::filesystem::exists(moved.temporary_path()));
  }
  EXPECT_THAT(*ListDirectory(dir.path()), IsEmpty());
}

TEST(AtomicDirectoryTest, RefusesBadNames) {
  const TempDir dir;
  PosixFileSystem disk;
  EXPECT_FALSE(AtomicDirectory::Create(disk, "/").ok());
  EXPECT_TRUE(absl::IsNotFound(AtomicDirectory::Create(disk, dir / "none/epoch").status()));
  auto directory = AtomicDirectory::Create(disk, dir / "epoch");
  for (const char* name : {"", ".", "..", "a/b", "../a"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(directory->Write(name, "x"))) << name;
  }
  ASSERT_TRUE(directory->Write("a", "1").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(directory->Write("a", "2")));
}

TEST(AtomicDirectoryTest, CommitDoesNotReplace) {
  const TempDir dir;
  PosixFileSystem disk;
  ASSERT_TRUE(WriteBoth(disk, dir / "epoch", "old", false).ok());
  const absl::Status status = WriteBoth(disk, dir / "epoch", "new", false);
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir / "epoch"));
  EXPECT_EQ(ReadBoth(dir / "epoch"), "old");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("epoch"));
}

TEST(AtomicDirectoryTest, CommitReplacingReplaces) {
  const TempDir dir;
  PosixFileSystem disk;
  ASSERT_TRUE(WriteBoth(disk, dir / "epoch", "old", true).ok());
  ASSERT_TRUE(WriteBoth(disk, dir / "epoch", "new", true).ok());
  EXPECT_EQ(ReadBoth(dir / "epoch"), "new");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("epoch"));
}

TEST(AtomicDirectoryTest, DiskFullAtAnyStepLeavesNothingOrAllOfIt) {
  FaultyFileSystem counter(FaultyFileSystem::Fault::kNone, 0);
  {
    const TempDir dir;
    ASSERT_TRUE(WriteBoth(counter, dir / "epoch", "x", false).ok());
  }
  ASSERT_GT(counter.steps(), 10);
  for (int step = 0; step < counter.steps(); ++step) {
    const TempDir dir;
    FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, step);
    EXPECT_FALSE(WriteBoth(disk, dir / "epoch", "x", false).ok()) << disk.log().back();
    const bool is_last = step == counter.steps() - 1;  // The sync after the rename.
    EXPECT_EQ(ReadBoth(dir / "epoch"), is_last ? std::optional<std::string>("x") : std::nullopt);
    EXPECT_EQ(ListDirectory(dir.path())->size(), is_last ? 1 : 0) << step;
  }
}

TEST(AtomicDirectoryTest, CrashAtAnyStepNeverShowsATornDirectory) {
  for (const bool replace : {false, true}) {
    bool finished = false;
    for (int step = 0; !finished; ++step) {
      const TempDir dir;
      PosixFileSystem before;
      if (replace) {
        ASSERT_TRUE(WriteBoth(before, dir / "epoch", "old", false).ok());
      }
      FaultyFileSystem disk(FaultyFileSystem::Fault::kCrash, step);
      finished = WriteBoth(disk, dir / "epoch", "new", replace).ok();
      const std::optional<std::string> found = ReadBoth(dir / "epoch");
      EXPECT_NE(found, "torn") << step;
      if (finished) {
        EXPECT_EQ(found, "new");
      }
      ASSERT_LT(step, 50);

      PosixFileSystem after;
      ASSERT_TRUE(RemoveTemporaries(after, dir.path()).ok());
      EXPECT_LE(ListDirectory(dir.path())->size(), 1) << step;
    }
  }
}

TEST(AtomicDirectoryTest, AFailedReplacementPutsTheOldOneBack) {
  FaultyFileSystem counter(FaultyFileSystem::Fault::kNone, 0);
  {
    const TempDir dir;
    PosixFileSystem real;
    ASSERT_TRUE(WriteBoth(real, dir / "epoch", "old", false).ok());
    ASSERT_TRUE(WriteBoth(counter, dir / "epoch", "new", true).ok());
  }
  for (int step = 0; step < counter.steps(); ++step) {
    const TempDir dir;
    PosixFileSystem real;
    ASSERT_TRUE(WriteBoth(real, dir / "epoch", "old", false).ok());
    FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, step);
    EXPECT_FALSE(WriteBoth(disk, dir / "epoch", "new", true).ok()) << step;
    const std::optional<std::string> found = ReadBoth(dir / "epoch");
    EXPECT_TRUE(found == "old" || found == "new") << step << " " << found.value_or("nothing");
  }
}

}  // namespace
}  // namespace imageddpo
