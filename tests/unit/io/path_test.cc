#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/io/file.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ResolveUnderRootsTest : public ::testing::Test {
 protected:
  ResolveUnderRootsTest() {
    dir_.Write("data/a.png", "");
    dir_.Write("data2/b.png", "");
    dir_.Write("secret/c.png", "");
  }

  absl::StatusOr<std::string> Resolve(const std::string& path) const {
    return ResolveUnderRoots(path, dir_ / "data", {dir_ / "data", dir_ / "other"});
  }
  bool IsRefused(const std::string& path) const {
    return absl::IsPermissionDenied(Resolve(path).status());
  }

  TempDir dir_;
};

TEST_F(ResolveUnderRootsTest, AcceptsWhatLiesInARoot) {
  EXPECT_EQ(*Resolve("a.png"), dir_ / "data/a.png");
  EXPECT_EQ(*Resolve(dir_ / "data/a.png"), dir_ / "data/a.png");
  EXPECT_EQ(*Resolve("./x/../a.png"), dir_ / "data/a.png");
  EXPECT_EQ(*Resolve("not/there/yet"), dir_ / "data/not/there/yet");
  EXPECT_EQ(*Resolve("../other/x"), dir_ / "other/x");
  EXPECT_EQ(*Resolve("."), dir_ / "data");
  EXPECT_EQ(*ResolveUnderRoots("/etc/../usr", "", {"/"}), "/usr");
}

TEST_F(ResolveUnderRootsTest, RefusesWhatLeavesThem) {
  EXPECT_TRUE(IsRefused("../secret/c.png"));
  EXPECT_TRUE(IsRefused("/etc/passwd"));
  EXPECT_TRUE(IsRefused("x/../../secret"));
  EXPECT_TRUE(IsRefused("not/there/../../../secret"));
  EXPECT_TRUE(IsRefused("../../../../../../../../.."));
  EXPECT_TRUE(IsRefused(".."));
  EXPECT_TRUE(absl::IsPermissionDenied(ResolveUnderRoots("a.png", dir_ / "data", {}).status()));
}

TEST_F(ResolveUnderRootsTest, ComparesWholeNames) { EXPECT_TRUE(IsRefused(dir_ / "data2/b.png")); }

TEST_F(ResolveUnderRootsTest, NamesPathAndRoots) {
  EXPECT_THAT(std::string(Resolve("../secret/c.png").status().message()),
              AllOf(HasSubstr("'../secret/c.png'"), HasSubstr(dir_ / "secret/c.png"),
                    HasSubstr(dir_ / "data"), HasSubstr(dir_ / "other")));
}

TEST_F(ResolveUnderRootsTest, FollowsLinks) {
  fs::create_symlink("../secret", dir_ / "data/out");
  fs::create_symlink(dir_ / "data/a.png", dir_ / "data/inside");
  fs::create_symlink(dir_ / "secret/new", dir_ / "data/dangling");
  EXPECT_TRUE(IsRefused("out/c.png"));
  EXPECT_TRUE(IsRefused("out/new"));
  EXPECT_TRUE(IsRefused("dangling"));  // Creating it would create the link's target.
  EXPECT_EQ(*Resolve("inside"), dir_ / "data/a.png");
  EXPECT_TRUE(IsRefused("out/../a.png"));  // ".." of the link's target, as the kernel takes it.
}

TEST_F(ResolveUnderRootsTest, ARootMayBeALink) {
  fs::create_symlink(dir_ / "data", dir_ / "alias");
  EXPECT_EQ(*ResolveUnderRoots(dir_ / "data/a.png", "", {dir_ / "alias"}), dir_ / "data/a.png");
  EXPECT_EQ(*ResolveUnderRoots("a.png", dir_ / "alias", {dir_ / "data/"}), dir_ / "data/a.png");
}

TEST_F(ResolveUnderRootsTest, RefusesLoopsAndNonsense) {
  fs::create_symlink("loop", dir_ / "data/loop");
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve("loop").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve(std::string("a\0b", 3)).status()));
}

}  // namespace
}  // namespace imageddpo
