#include "trainer/controller/artifacts/manifest.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

Manifest TwoFiles() {
  Manifest manifest;
  manifest.epoch = 12;
  manifest.Add("a.safetensors", "abc");
  manifest.Add("empty", "");
  return manifest;
}

TEST(Manifest, HoldsSizeAndSha256OfEachFile) {
  const std::string json = TwoFiles().ToJson();
  // FIPS 180-2's example.
  EXPECT_THAT(json, HasSubstr("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  const auto read = Manifest::FromJson(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->epoch, 12);
  ASSERT_EQ(read->files.size(), 2u);
  EXPECT_EQ(read->files.at("a.safetensors").size_bytes, 3u);
  EXPECT_EQ(read->files.at("empty").size_bytes, 0u);
}

TEST(Manifest, ChecksBytes) {
  const Manifest manifest = TwoFiles();
  EXPECT_TRUE(manifest.Check("a.safetensors", "abc").ok());
  EXPECT_TRUE(manifest.Check("empty", "").ok());
  EXPECT_THAT(std::string(manifest.Check("a.safetensors", "ab").message()),
              HasSubstr("a.safetensors has 2 bytes"));
  EXPECT_THAT(std::string(manifest.Check("a.safetensors", "abd").message()), HasSubstr("SHA-256"));
  EXPECT_THAT(std::string(manifest.Check("b", "abc").message()), HasSubstr("does not list b"));
}

TEST(Manifest, RefusesWhatItCannotRead) {
  const std::string json = TwoFiles().ToJson();
  for (size_t size = 0; size + 2 < json.size(); ++size) {
    EXPECT_FALSE(Manifest::FromJson(json.substr(0, size)).ok()) << "cut to " << size << " bytes";
  }
  EXPECT_TRUE(absl::IsDataLoss(Manifest::FromJson("[]").status()));
  EXPECT_TRUE(absl::IsDataLoss(Manifest::FromJson("{\"format\": 1}").status()));
  EXPECT_TRUE(absl::IsUnimplemented(
      Manifest::FromJson("{\"format\": 2, \"epoch\": 0, \"files\": {}}").status()));
}

}  // namespace
}  // namespace imageddpo
