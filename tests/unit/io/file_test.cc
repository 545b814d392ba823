#include "common/io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "common/io/file_digest.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(FileTest, WritesAndReadsAnyBytes) {
  const TempDir dir;
  const std::string bytes("a\0b\xff\n", 5);
  ASSERT_TRUE(WriteFileAtomically(dir / "f", bytes).ok());
  EXPECT_EQ(*ReadFile(dir / "f"), bytes);
  ASSERT_TRUE(WriteFileAtomically(dir / "f", "").ok());
  EXPECT_EQ(*ReadFile(dir / "f"), "");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("f"));
}

TEST(FileTest, ReadsMoreThanOneBuffer) {
  const TempDir dir;
  std::string bytes(100'000, 'x');
  bytes[77'777] = 'y';
  dir.Write("f", bytes);
  EXPECT_EQ(*ReadFile(dir / "f"), bytes);
}

TEST(FileTest, ReadErrorsNameThePath) {
  const TempDir dir;
  const absl::Status missing = ReadFile(dir / "none").status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(Message(missing), HasSubstr(dir / "none"));
  EXPECT_THAT(Message(missing), HasSubstr("No such file"));
  EXPECT_THAT(Message(ReadFile(dir.path()).status()), HasSubstr("not a regular file"));
  EXPECT_THAT(Message(ReadFile(dir / "caf\xe9\\").status()), HasSubstr("/caf\\xE9\\x5C'"));
}

TEST(FileTest, ALargerFileThanItMayBeIsRefusedBeforeItIsRead) {
  const TempDir dir;
  std::filesystem::resize_file(dir.Write("f", "head"), 100'000'000'000);  // Sparse.
  const absl::Status refused = ReadFile(dir / "f").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(Message(refused), HasSubstr("has 100000000000 bytes; of such a file at most"));
  dir.Write("g", "12345");
  EXPECT_EQ(*ReadFile(dir / "g", 5), "12345");
  EXPECT_FALSE(ReadFile(dir / "g", 4).ok());

  const absl::StatusOr<FileHead> head = ReadFileHead(dir / "f", 6);
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->bytes, std::string("head\0\0", 6));
  EXPECT_EQ(head->file_bytes, 100'000'000'000U);
  EXPECT_EQ(ReadFileHead(dir / "g", 100)->bytes, "12345");
  EXPECT_TRUE(absl::IsNotFound(ReadFileHead(dir / "none", 1).status()));
  EXPECT_FALSE(ReadFileHead(dir.path(), 1).ok());
}

TEST(FileTest, TheDigestOfALargeFileTellsOtherContents) {
  const TempDir dir;
  std::string bytes(5'000'000, 'x');
  const auto digest = [&](const std::string& content) {
    return *FileDigest(dir.Write("f", content));
  };
  const std::string before = digest(bytes);
  EXPECT_THAT(before, testing::MatchesRegex("5000000-[0-9a-f]{16}"));
  EXPECT_EQ(digest(bytes), before);
  bytes.back() = 'y';
  EXPECT_NE(digest(bytes), before) << "its end is among the pieces";
  bytes.back() = 'x';
  bytes.front() = 'y';
  EXPECT_NE(digest(bytes), before);
  EXPECT_NE(digest(std::string(5'000'001, 'x')), before);
  EXPECT_NE(digest(std::string(5'000'000, 'z')), before);
  EXPECT_EQ(digest(""), digest(""));
  EXPECT_NE(digest("a"), digest("b"));
  EXPECT_TRUE(absl::IsNotFound(FileDigest(dir / "none").status()));
}

TEST(FileTest, ReadingAPipeFailsInsteadOfWaiting) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(Message(ReadFile(dir / "pipe").status()), HasSubstr("not a regular file"));
}

TEST(FileTest, WritingIntoAMissingFolderNamesThePath) {
  const TempDir dir;
  const absl::Status status = WriteFileAtomically(dir / "none/f", "x");
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(Message(status), HasSubstr("cannot write '" + (dir / "none/f") + "'"));
  EXPECT_FALSE(WriteFileAtomically(dir / "none/", "x").ok());
  EXPECT_FALSE(WriteFileAtomically("", "x").ok());
}

TEST(FileTest, WriteSyncsBeforeItRenames) {
  const TempDir dir;
  FaultyFileSystem disk(FaultyFileSystem::Fault::kNone, 0);
  ASSERT_TRUE(WriteFileAtomically(disk, dir / "f", "x").ok());
  std::vector<std::string> verbs;
  for (const std::string& step : disk.log()) verbs.push_back(step.substr(0, step.find(' ')));
  EXPECT_THAT(verbs, ElementsAre("create", "write", "sync", "close", "rename", "syncdir"));
  EXPECT_EQ(disk.log().back(), "syncdir " + dir.path());
}

TEST(FileTest, DiskFullKeepsTheOldFileAndLeavesNothingBehind) {
  const TempDir dir;
  dir.Write("f", "old");
  for (int step = 0; step < 5; ++step) {
    FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, step);
    const absl::Status status = WriteFileAtomically(disk, dir / "f", "new content");
    EXPECT_FALSE(status.ok()) << step;
    EXPECT_THAT(Message(status), HasSubstr(dir / "f"));
    EXPECT_EQ(dir.Read("f"), "old") << step;
    EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("f")) << step;
  }
  FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, 1);
  const absl::Status status = WriteFileAtomically(disk, dir / "f", "new content");
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(Message(status), HasSubstr("No space left on device"));
}

TEST(FileTest, CrashAtAnyStepLeavesTheOldFileOrTheNewOne) {
  for (int step = 0; step < 6; ++step) {
    const TempDir dir;
    dir.Write("f", "old");
    FaultyFileSystem disk(FaultyFileSystem::Fault::kCrash, step);
    EXPECT_FALSE(WriteFileAtomically(disk, dir / "f", "new").ok()) << step;
    EXPECT_EQ(dir.Read("f"), step < 5 ? "old" : "new") << step;  // Step 5 syncs the folder.

    PosixFileSystem after_restart;
    ASSERT_TRUE(RemoveTemporaries(after_restart, dir.path()).ok());
    EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("f")) << step;
  }
}

TEST(FileTest, RealFullDiskIsAResourceExhaustedError) {
  PosixFileSystem disk;
  const absl::Status status = disk.Append("/dev/full", "x");
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(Message(status), HasSubstr("/dev/full"));
}

TEST(FileTest, AppendsLines) {
  const TempDir dir;
  ASSERT_TRUE(AppendLine(dir / "log", "one").ok());
  ASSERT_TRUE(AppendLine(dir / "log", "").ok());
  ASSERT_TRUE(AppendLine(dir / "log", "two").ok());
  EXPECT_EQ(dir.Read("log"), "one\n\ntwo\n");
  EXPECT_FALSE(AppendLine(dir / "log", "three\nfour").ok());
  EXPECT_EQ(dir.Read("log"), "one\n\ntwo\n");
  EXPECT_TRUE(absl::IsNotFound(AppendLine(dir / "none/log", "x")));
}

TEST(FileTest, MakesDirectoriesOnTheWay) {
  const TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir / "a/b//c/").ok());
  ASSERT_TRUE(MakeDirectories(dir / "a/b/c").ok());
  EXPECT_TRUE(std::filesystem::is_directory(dir / "a/b/c"));
  dir.Write("file", "");
  EXPECT_FALSE(MakeDirectories(dir / "file").ok());
  EXPECT_FALSE(MakeDirectories(dir / "file/below").ok());
}

TEST(FileTest, ListsSortedNames) {
  const TempDir dir;
  for (const char* name : {"b", "a", ".c", "B"}) dir.Write(name, "");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre(".c", "B", "a", "b"));
  EXPECT_TRUE(absl::IsNotFound(ListDirectory(dir / "none").status()));
}

TEST(FileTest, RemovesOnlyTemporaries) {
  const TempDir dir;
  dir.Write(".hidden", "");
  dir.Write("a.tmp-1", "");
  dir.Write(".f.tmp-1-2", "");
  dir.Write(".d.tmp-1-2/inside", "");
  PosixFileSystem disk;
  ASSERT_TRUE(RemoveTemporaries(disk, dir.path()).ok());
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre(".hidden", "a.tmp-1"));
}

// FIPS 180-2, examples B.1 and B.2, and the well-known digest of nothing.
TEST(FileTest, Sha256) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(FilesTest, ManyAreWrittenWithOneSyncOfTheDirectory) {
  const TempDir dir;
  FaultyFileSystem disk(FaultyFileSystem::Fault::kNone, 0);
  std::vector<std::pair<std::string, std::string>> files;
  for (int i = 0; i < 150; ++i) files.emplace_back(std::to_string(i), std::to_string(i * i));
  dir.Write("7", "old");
  ASSERT_TRUE(WriteFilesAtomically(disk, dir.path(), files).ok());
  for (const auto& [name, bytes] : files) EXPECT_EQ(dir.Read(name), bytes);
  EXPECT_EQ(ListDirectory(dir.path())->size(), files.size());
  EXPECT_EQ(std::count_if(disk.log().begin(), disk.log().end(),
                          [](const std::string& step) { return step.starts_with("syncdir"); }),
            1);
}

TEST(FilesTest, AnErrorLeavesNoTemporaries) {
  const std::vector<std::pair<std::string, std::string>> files = {{"a", "first"}, {"b", "second"}};
  FaultyFileSystem counter(FaultyFileSystem::Fault::kNone, 0);
  {
    const TempDir dir;
    ASSERT_TRUE(WriteFilesAtomically(counter, dir.path(), files).ok());
  }
  ASSERT_GE(counter.steps(),
            11);  // Create and write, sync and close, rename, each twice; one sync.
  for (int fail_at = 0; fail_at < counter.steps(); ++fail_at) {
    const TempDir dir;
    FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, fail_at);
    const absl::Status status = WriteFilesAtomically(disk, dir.path(), files);
    EXPECT_FALSE(status.ok()) << fail_at;
    const auto names = ListDirectory(dir.path());
    ASSERT_TRUE(names.ok());
    for (const std::string& name : *names) EXPECT_FALSE(IsTemporaryName(name)) << name;
  }
}

}  // namespace
}  // namespace imageddpo
