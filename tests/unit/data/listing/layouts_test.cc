// The layouts that image sets come in, each as a folder of empty files: nothing is opened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "rollout/data/listing/listing.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class LayoutsTest : public ::testing::Test {
 protected:
  void Touch(const std::vector<std::string>& names) {
    for (const std::string& name : names) dir_.Write(name, "x");
  }
  Listing List(const ListingOptions& options = {}) {
    absl::StatusOr<Listing> listing = ListExamples(dir_.path(), options);
    EXPECT_TRUE(listing.ok()) << listing.status();
    return listing.ok() ? *std::move(listing) : Listing{};
  }
  std::string Error(const std::string& name = "", const ListingOptions& options = {}) {
    return std::string(ListExamples(dir_ / name, options).status().message());
  }
  static std::vector<std::string> Ids(const Listing& listing) {
    std::vector<std::string> ids;
    for (int64_t i = 0; i < listing.examples.size(); ++i) ids.push_back(listing.examples.id(i));
    return ids;
  }
  /// -1: none.
  static std::vector<int64_t> Labels(const Listing& listing) {
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < listing.examples.size(); ++i) {
      labels.push_back(listing.examples.label(i).value_or(-1));
    }
    return labels;
  }

  TempDir dir_;
};

TEST_F(LayoutsTest, SubFoldersAreReadAndHiddenOnesAreNot) {
  Touch({"b.webp", "a/z.PNG", "a/b/c.jpg", ".git/x.png", "a/.y.png", "__MACOSX/a.png"});
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("a/b/c.jpg", "a/z.PNG", "b.webp"));
  EXPECT_THAT(Labels(listing), ElementsAre(-1, -1, -1));
  EXPECT_EQ(listing.examples.file_name(0), dir_ / "a/b/c.jpg");
  EXPECT_THAT(listing.warnings, ElementsAre(HasSubstr("not taken for labels")));
}

TEST_F(LayoutsTest, FlatIsWhatEarlierVersionsRead) {
  Touch({"b.png", "a.JPG", "c.webp", "sub/d.png", "a.txt"});
  dir_.Write("metadata.csv", "file_name,text\nb.png,t\n");
  Listing listing = List({.layout = DataLayout::kFlat});
  EXPECT_THAT(Ids(listing), ElementsAre("a.JPG", "b.png"));
  EXPECT_EQ(listing.examples.text(1), "");
  EXPECT_THAT(listing.warnings, IsEmpty());
  dir_.Write("metadata.jsonl", "{\"file_name\": \"sub/d.png\"}");
  listing = List({.layout = DataLayout::kFlat});
  EXPECT_THAT(Ids(listing), ElementsAre("sub/d.png"));
  EXPECT_THAT(listing.warnings, IsEmpty());
}

TEST_F(LayoutsTest, MetadataCsv) {
  Touch({"a.png", "b.png"});
  dir_.Write("metadata.csv",
             "\xef\xbb\xbf"
             "file_name, text ,label,source\r\n"
             "b.png,\"a \"\"b\"\",\r\nindeed\",3.0,web\r\na.png,,,\r\n");
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("b.png", "a.png"));
  EXPECT_EQ(listing.examples.text(0), "a \"b\",\r\nindeed");
  EXPECT_THAT(Labels(listing), ElementsAre(3, -1));
  EXPECT_EQ(listing.examples.at(0).metadata, (nlohmann::json{{"source", "web"}}));
  EXPECT_EQ(listing.examples.at(1).metadata, nlohmann::json::object());
  EXPECT_THAT(listing.warnings, IsEmpty());
}

TEST_F(LayoutsTest, MetadataCsvErrorsNameTheLine) {
  Touch({"a.png"});
  const std::string place = dir_ / "metadata.csv:";
  dir_.Write("metadata.csv", "file_name,text\na.png,\"x\ny\"\na.png,one, two\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr(place + "4: "), HasSubstr("3 fields and the header has 2")));
  dir_.Write("metadata.csv", "file_name,label\na.png,3.5\n");
  EXPECT_THAT(Error(), HasSubstr(place + "2: \"label\" is \"3.5\""));
  dir_.Write("metadata.csv", "filename,label\na.png,3\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr(place + "1: "), HasSubstr("filename, label")));
  dir_.Write("metadata.csv", "file_name,text\na.png,\"x\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr(place + "2: "), HasSubstr("never closed")));
  dir_.Write("metadata.csv", std::string("\xff\xfe"
                                         "f\0",
                                         4));
  EXPECT_THAT(Error(), HasSubstr("metadata.csv is text in UTF-16"));
}

TEST_F(LayoutsTest, ASpreadsheetsSemicolons) {
  Touch({"a.png"});
  dir_.Write("metadata.csv", "file_name;text\na.png;one, two\n");
  EXPECT_EQ(List().examples.text(0), "one, two");
}

TEST_F(LayoutsTest, MetadataInSubFoldersIsRelativeToThem) {
  Touch({"one/a.png", "two/deep/a.png", "two/unnamed.png"});
  dir_.Write("one/metadata.jsonl", "{\"file_name\": \"a.png\", \"text\": \"first\"}");
  dir_.Write("two/metadata.csv", "file_name,text\ndeep/a.png,second\n");
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("one/a.png", "two/deep/a.png"));
  EXPECT_EQ(listing.examples.text(1), "second");
  EXPECT_THAT(listing.warnings,
              ElementsAre(AllOf(HasSubstr("1 images"), HasSubstr("two/unnamed.png"))));
}

TEST_F(LayoutsTest, TheSameImageNamedTwiceIsRefusedWithBothPlaces) {
  Touch({"one/a.png"});
  dir_.Write("metadata.jsonl", "{\"file_name\": \"one/a.png\"}");
  dir_.Write("one/metadata.jsonl", "{\"file_name\": \"a.png\"}");
  EXPECT_THAT(Error(), AllOf(HasSubstr(dir_ / "one/metadata.jsonl:1"),
                             HasSubstr(dir_ / "metadata.jsonl:1 too")));
}

TEST_F(LayoutsTest, WhatIsNotUnderstoodIsAWarning) {
  Touch({"a.png", "captions.json", "train.parquet", "notes.txt", "README.md", "data.zip"});
  EXPECT_THAT(List().warnings,
              ElementsAre(AllOf(HasSubstr("captions.json"), HasSubstr("metadata.jsonl or")),
                          AllOf(HasSubstr("train.parquet"), HasSubstr("read_parquet")),
                          AllOf(HasSubstr("notes.txt"), HasSubstr("same name")),
                          AllOf(HasSubstr("data.zip"), HasSubstr("unpack"))));
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\"}");
  dir_.Write("metadata.csv", "file_name\na.png\n");
  EXPECT_THAT(List().warnings,
              testing::Contains(AllOf(HasSubstr(dir_ / "metadata.csv"), HasSubstr("not read"))));
}

TEST_F(LayoutsTest, TextsBesideImagesArePrompts) {
  Touch({"a.png", "sub/b.jpg", "c.png"});
  dir_.Write("a.txt", " a cat,\r\nasleep \n");
  dir_.Write("sub/b.caption", "a dog");
  const Listing listing = List();
  EXPECT_EQ(listing.examples.text(0), "a cat, asleep");
  EXPECT_EQ(listing.examples.text(1), "");
  EXPECT_EQ(listing.examples.text(2), "a dog");
  EXPECT_THAT(listing.warnings,
              testing::Contains(AllOf(HasSubstr("1 of 3 images"), HasSubstr("c.png"))));
  dir_.Write("c.txt", "caf\xe9");
  EXPECT_THAT(Error(), AllOf(HasSubstr(dir_ / "c.txt"), HasSubstr("UTF-8")));
}

TEST_F(LayoutsTest, ClassFolders) {
  Touch({"dog/1.png", "dog/more/2.png", "cat/1.png", "ant/x.png"});
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("ant/x.png", "cat/1.png", "dog/1.png", "dog/more/2.png"));
  EXPECT_THAT(Labels(listing), ElementsAre(0, 1, 2, 2));
  EXPECT_EQ(listing.examples.text(3), "");
  EXPECT_EQ(listing.examples.at(3).metadata, (nlohmann::json{{"class", "dog"}}));
  EXPECT_THAT(listing.examples.class_names(), ElementsAre("ant", "cat", "dog"));
  EXPECT_THAT(listing.warnings, IsEmpty());
}

TEST_F(LayoutsTest, ClassFoldersBelowOneFolder) {
  Touch({"train/n01/images/a.JPEG", "train/n02/images/b.JPEG"});
  EXPECT_THAT(Labels(List()), ElementsAre(0, 1));
}

TEST_F(LayoutsTest, DigitsAreClassesAndNoSeverities) {
  Touch({"1/a.png", "2/a.png", "3/a.png"});
  EXPECT_THAT(Labels(List()), ElementsAre(0, 1, 2));
}

TEST_F(LayoutsTest, SplitsAreRefusedWithTheirNames) {
  Touch({"Train/a/1.png", "Train/b/1.png", "Test/a/1.png", "annotations/x.json"});
  EXPECT_THAT(Error(), AllOf(HasSubstr("one folder per split"),
                             HasSubstr("'" + (dir_ / "Test") + "' or '" + (dir_ / "Train") + "'")));
  dir_.Write("Train/metadata.jsonl", "{\"file_name\": \"a/1.png\"}");
  EXPECT_THAT(Error(), HasSubstr("one folder per split"));
  EXPECT_EQ(Error("Train"), "");
  // A metadata file above them says what is meant.
  dir_.Write("metadata.jsonl", "{\"file_name\": \"Train/a/1.png\"}");
  std::filesystem::remove(dir_ / "Train/metadata.jsonl");
  EXPECT_EQ(List().examples.size(), 1);
}

TEST_F(LayoutsTest, ImageNetC) {
  for (const char* corruption : {"fog", "snow"}) {
    for (const char* severity : {"1", "5"}) {
      for (const char* name : {"n01/a.JPEG", "n02/b.JPEG"}) {
        Touch({std::string(corruption) + "/" + severity + "/" + name});
      }
    }
  }
  Listing listing = List();
  EXPECT_THAT(Labels(listing), ElementsAre(0, 1, 0, 1, 0, 1, 0, 1));
  EXPECT_EQ(listing.examples.at(3).metadata,
            (nlohmann::json{{"corruption", "fog"}, {"severity", 5}, {"class", "n02"}}));
  EXPECT_THAT(listing.warnings, ElementsAre(AllOf(HasSubstr("2 corruptions (fog, snow)"),
                                                  HasSubstr("gaussian_noise/3")),
                                            HasSubstr("2 severities (1, 5)")));
  listing = *ListExamples(dir_ / "fog");
  EXPECT_THAT(Labels(listing), ElementsAre(0, 1, 0, 1));
  EXPECT_EQ(listing.examples.at(2).metadata["severity"], 5);
  // The folder of one severity is a set with class folders.
  listing = *ListExamples(dir_ / "fog/5");
  EXPECT_THAT(Ids(listing), ElementsAre("n01/a.JPEG", "n02/b.JPEG"));
  EXPECT_THAT(Labels(listing), ElementsAre(0, 1));
  EXPECT_EQ(listing.examples.at(1).metadata, (nlohmann::json{{"class", "n02"}}));
  EXPECT_THAT(listing.warnings, IsEmpty());
}

TEST_F(LayoutsTest, TinyImageNetCAsItIsUnpacked) {
  for (const char* corruption : {"brightness", "jpeg_compression"}) {
    for (const char* name : {"n01443537/test_0.JPEG", "n01629819/test_50.JPEG"}) {
      Touch({std::string("Tiny-ImageNet-C/") + corruption + "/1/" + name});
    }
  }
  const Listing listing = List();
  EXPECT_THAT(Labels(listing), ElementsAre(0, 1, 0, 1));
  EXPECT_EQ(listing.examples.at(3).metadata,
            (nlohmann::json{
                {"corruption", "jpeg_compression"}, {"severity", 1}, {"class", "n01629819"}}));
  EXPECT_THAT(listing.warnings,
              ElementsAre(HasSubstr("2 corruptions (brightness, jpeg_compression)")));
}

TEST_F(LayoutsTest, Cod10k) {
  Touch(
      {"Image/COD10K-CAM-1-Aquatic-3-Crab-9.jpg", "Image/COD10K-CAM-2-Terrestrial-23-Cat-1505.jpg",
       "Image/COD10K-NonCAM-5-Background-0-x-1.jpg", "GT_Object/COD10K-CAM-1-Aquatic-3-Crab-9.png",
       "GT_Edge/COD10K-CAM-1-Aquatic-3-Crab-9.png"});
  const Listing listing = List();
  ASSERT_EQ(listing.examples.size(), 3);
  EXPECT_THAT(Labels(listing), ElementsAre(2, 22, -1));
  EXPECT_EQ(
      listing.examples.at(0).metadata,
      (nlohmann::json{{"class", "Crab"},
                      {"super_class", "Aquatic"},
                      {"camouflaged", true},
                      {"mask_file_name", dir_ / "GT_Object/COD10K-CAM-1-Aquatic-3-Crab-9.png"}}));
  EXPECT_EQ(listing.examples.target_file_name(0), "");
  EXPECT_THAT(listing.warnings, IsEmpty());
}

TEST_F(LayoutsTest, AnEmptyFolderAndAFile) {
  EXPECT_THAT(Error(), AllOf(HasSubstr("metadata.jsonl"), HasSubstr(".webp")));
  Touch({"fog.npy", "labels.npy"});
  EXPECT_THAT(Error(), HasSubstr("give one of them, as '" + (dir_ / "fog.npy") + "'"));
  Touch({"a.png"});
  EXPECT_THAT(Error("a.png"), HasSubstr("is a file"));
}

TEST_F(LayoutsTest, LinksStayInTheFolderAndLoopsEnd) {
  Touch({"real/a.png", "b.png"});
  const TempDir outside;
  outside.Write("secret.png", "x");
  std::filesystem::create_symlink("..", dir_ / "real/up");
  std::filesystem::create_symlink("real", dir_ / "again");
  std::filesystem::create_symlink("real/a.png", dir_ / "c.png");
  std::filesystem::create_symlink("gone.png", dir_ / "d.png");
  std::filesystem::create_symlink("e.png", dir_ / "e.png");
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("again/a.png", "b.png", "c.png"));
  EXPECT_EQ(listing.examples.file_name(0), dir_ / "real/a.png");
  EXPECT_EQ(listing.examples.file_name(2), dir_ / "real/a.png");
  EXPECT_THAT(listing.missing,
              ElementsAre(AllOf(HasSubstr("'" + (dir_ / "d.png") + "'"), HasSubstr("gone.png")),
                          AllOf(HasSubstr("'" + (dir_ / "e.png") + "'"), HasSubstr("too many"))));
  EXPECT_THAT(listing.warnings, testing::Contains(HasSubstr("met before")));
  std::filesystem::create_symlink(outside.path(), dir_ / "out");
  EXPECT_THAT(Error(), HasSubstr("allowed"));
}

TEST_F(LayoutsTest, ATextColumnIsOneThatIsThere) {
  Touch({"a.png"});
  dir_.Write("metadata.csv", "file_name,caption\na.png,a cat\n");
  EXPECT_EQ(List({.text_column = "caption"}).examples.text(0), "a cat");
  EXPECT_THAT(Error("", {.text_column = "captoin"}),
              AllOf(HasSubstr("`data.text_column` is captoin"), HasSubstr("caption, file_name")));
  EXPECT_THAT(List().warnings, ElementsAre(HasSubstr("`data.text_column: caption`")));
}

TEST_F(LayoutsTest, MetadataNamesFilesOfAnyName) {
  const std::string longest = std::string(251, 'x') + ".png";
  Touch({"caf\xe9.png", "-rf.png", "a\nb.png", " , ;\"q\".png", longest});
  dir_.Write("metadata.csv",
             "file_name,text\ncaf\\xE9.png,1\n-rf.png,2\n\"a\nb.png\",3\n"
             "\" , ;\"\"q\"\".png\",4\n" +
                 longest + ",5\n");
  const auto check = [&] {
    const Listing listing = List();
    EXPECT_THAT(Ids(listing),
                ElementsAre("caf\\xE9.png", "-rf.png", "a\nb.png", " , ;\"q\".png", longest));
    EXPECT_EQ(listing.examples.file_name(0), dir_ / "caf\xe9.png");
    EXPECT_EQ(listing.examples.text(2), "3");
    EXPECT_THAT(listing.missing, IsEmpty());
    EXPECT_THAT(listing.warnings, IsEmpty());
  };
  check();
  std::string lines;
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"caf\\xE9.png", "1"},
                                   {"-rf.png", "2"},
                                   {"a\nb.png", "3"},
                                   {" , ;\"q\".png", "4"},
                                   {longest, "5"}}) {
    lines += nlohmann::json{{"file_name", name}, {"text", text}}.dump() + "\n";
  }
  std::filesystem::remove(dir_ / "metadata.csv");
  dir_.Write("metadata.jsonl", lines);
  check();
  // A file that is not there is named as all others are.
  dir_.Write("metadata.jsonl", "{\"file_name\": \"th\\\\xE9\\\\x5Cx.png\"}");
  EXPECT_THAT(List().missing, ElementsAre(HasSubstr("th\\xE9\\x5Cx.png")));
}

TEST_F(LayoutsTest, NamesMayBeAnyBytes) {
  Touch({"caf\xe9/1.png", "caf\xe9/1.txt", "tea/2.png"});
  const Listing listing = List();
  EXPECT_THAT(Ids(listing), ElementsAre("caf\\xE9/1.png", "tea/2.png"));
  EXPECT_EQ(listing.examples.file_name(0), dir_ / "caf\xe9/1.png");
  EXPECT_EQ(listing.examples.text(0), "x");
  EXPECT_EQ(listing.examples.at(0).metadata["class"], "caf\\xE9");
}

TEST_F(LayoutsTest, SingleFilesAreASetInTheirOrder) {
  Touch({"b/z.png", "a.jpg"});
  const Listing listing = List({.files = {dir_ / "b/z.png", dir_ / "a.jpg", dir_ / "gone.png"}});
  EXPECT_THAT(Ids(listing), ElementsAre(dir_ / "b/z.png", dir_ / "a.jpg"));
  EXPECT_EQ(listing.examples.file_name(1), dir_ / "a.jpg");
  EXPECT_THAT(listing.missing, ElementsAre(HasSubstr("gone.png")));
  // A link that was put in the place of a file leads nowhere else.
  std::filesystem::create_symlink("/etc/passwd", dir_ / "b/link.png");
  const Listing linked = List({.files = {dir_ / "b/link.png"}});
  EXPECT_EQ(linked.missing.size(), 1U);
  EXPECT_EQ(linked.examples.size(), 0);
}

}  // namespace
}  // namespace imageddpo
