#include "rollout/data/listing/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class MetadataTest : public ::testing::Test {
 protected:
  MetadataTest() {
    for (const char* name : {"a.png", "b.png", "sub/c.png"}) dir_.Write(name, "x");
  }

  absl::StatusOr<std::vector<Example>> Parse(const std::string& text,
                                             const std::vector<std::string>& more_roots = {}) {
    std::vector<std::string> roots = more_roots;
    roots.push_back(dir_.path());
    PathResolver resolver(roots);
    listing_ = Listing{.path = dir_.path(), .examples = ExampleTable(dir_.path())};
    MetadataReader reader("text", &resolver, &listing_);
    absl::Status status =
        reader.ReadJsonLines(text, {.path = "folder/metadata.jsonl", .dir = dir_.path()});
    status.Update(reader.Finish());
    if (!status.ok()) return status;
    std::vector<Example> examples;
    for (int64_t i = 0; i < listing_.examples.size(); ++i) {
      examples.push_back(listing_.examples.at(i));
    }
    return examples;
  }
  std::string ErrorOf(const std::string& text) {
    const auto examples = Parse(text);
    if (examples.ok()) return "no error";
    EXPECT_TRUE(absl::IsInvalidArgument(examples.status()));
    return std::string(examples.status().message());
  }

  TempDir dir_;
  Listing listing_;
};

TEST_F(MetadataTest, ReadsEveryKey) {
  const auto examples = Parse(
      R"({"file_name": "a.png", "text": "a shoe ä", "label": 7, "id": "x1", "split": "train", "n": [1]})"
      "\n"
      R"({"file_name": "sub/c.png"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  ASSERT_EQ(examples->size(), 2);
  const Example& first = (*examples)[0];
  EXPECT_EQ(first.id, "x1");
  EXPECT_EQ(first.file_name, dir_ / "a.png");
  EXPECT_EQ(first.text, "a shoe ä");
  EXPECT_EQ(first.label, 7);
  EXPECT_EQ(first.metadata, nlohmann::json::parse(R"({"split": "train", "n": [1]})"));
  const Example& second = (*examples)[1];
  EXPECT_EQ(second.id, "sub/c.png");
  EXPECT_EQ(second.file_name, dir_ / "sub/c.png");
  EXPECT_EQ(second.text, "");
  EXPECT_EQ(second.label, std::nullopt);
  EXPECT_EQ(second.metadata, nlohmann::json::object());
}

TEST_F(MetadataTest, IsUtf8) {
  for (const std::string& text :
       {std::string("\xff\xfe{\0", 4), std::string("\xfe\xff\0{", 4), std::string("{\0\"\0", 4)}) {
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr("folder/metadata.jsonl is text in UTF-16"),
                                     HasSubstr("save it as UTF-8")));
  }
  EXPECT_THAT(ErrorOf("\n{\"file_name\": \"caf\xe9.png\"}"),
              AllOf(HasSubstr("folder/metadata.jsonl:2: the line is not UTF-8"),
                    HasSubstr("caf\\xE9.png")));
  EXPECT_TRUE(Parse("\xef\xbb\xbf{\"file_name\": \"a.png\"}").ok());
}

TEST_F(MetadataTest, NamesThatAreNotUtf8AreGivenAsTheyAreShown) {
  dir_.Write("caf\xe9.png", "x");
  const std::string line = R"({"file_name": "caf\\xE9.png"})";
  auto examples = Parse(line);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].file_name, dir_ / "caf\xe9.png");
  EXPECT_EQ((*examples)[0].id, "caf\\xE9.png");

  // A file whose name is exactly the escaped text is not taken for the other.
  dir_.Write("caf\\xE9.png", "x");
  examples = Parse(line + "\n" + R"({"file_name": "caf\\x5CxE9.png"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].file_name, dir_ / "caf\xe9.png");
  EXPECT_EQ((*examples)[1].file_name, dir_ / "caf\\xE9.png");

  // Where there is no other such file, the unescaped name may be used; two lines that name one file
  // are still refused.
  std::filesystem::remove(dir_ / "caf\xe9.png");
  examples = Parse(line);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].file_name, dir_ / "caf\\xE9.png");
  EXPECT_EQ((*examples)[0].id, "caf\\x5CxE9.png");
  EXPECT_THAT(ErrorOf(line + "\n" + R"({"file_name": "caf\\x5CxE9.png"})"),
              HasSubstr("'caf\\x5CxE9.png' is that of line 1 too"));
  EXPECT_THAT(ErrorOf("{\"file_name\": \"a\\u0000.png\"}"), HasSubstr("zero byte"));
}

TEST_F(MetadataTest, NullMeansAbsentAndIdsMayBeIntegers) {
  const auto examples = Parse(R"({"file_name": "a.png", "text": null, "label": null, "id": null})"
                              "\n"
                              R"({"file_name": "b.png", "id": 12})"
                              "\n"
                              R"({"file_name": "b.png", "id": 13.0, "label": NaN, "text": "NaN"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].id, "a.png");
  EXPECT_EQ((*examples)[0].label, std::nullopt);
  EXPECT_EQ((*examples)[1].id, "12");
  // As a data frame with missing values is written.
  EXPECT_EQ((*examples)[2].id, "13");
  EXPECT_EQ((*examples)[2].label, std::nullopt);
  EXPECT_EQ((*examples)[2].text, "NaN");
}

TEST_F(MetadataTest, TakesByteOrderMarkWindowsLinesAndBlankLines) {
  const auto examples =
      Parse("\xef\xbb\xbf{\"file_name\": \"a.png\"}\r\n\r\n  \n{\"file_name\": \"b.png\"}\r\n");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ(examples->size(), 2);
}

TEST_F(MetadataTest, NothingGivesNothing) {
  EXPECT_TRUE(Parse("")->empty());
  EXPECT_TRUE(Parse("\n\n")->empty());
}

TEST_F(MetadataTest, ErrorsNameFileAndLine) {
  const std::string good = "{\"file_name\": \"a.png\"}\n";
  const auto error_of_line_2 = [&](const std::string& line) { return ErrorOf(good + line); };
  const std::string place = "folder/metadata.jsonl:2: ";
  EXPECT_THAT(error_of_line_2("{\"file_name\": "), AllOf(HasSubstr(place), HasSubstr("not JSON")));
  EXPECT_THAT(error_of_line_2("{\"file_name\": \"\xff\"}"), HasSubstr("not UTF-8"));
  EXPECT_THAT(error_of_line_2("[1, 2]"), AllOf(HasSubstr(place), HasSubstr("not a JSON object")));
  EXPECT_THAT(error_of_line_2("{}"),
              AllOf(HasSubstr(place), HasSubstr("\"file_name\" is missing")));
  EXPECT_THAT(error_of_line_2(R"({"file_name": 3})"), HasSubstr("must be a string"));
  EXPECT_THAT(error_of_line_2(R"({"file_name": "b.png", "text": "\ud83d"})"),
              AllOf(HasSubstr(place), HasSubstr("surrogate")));
  EXPECT_THAT(error_of_line_2(R"({"file_name": "sub"})"), HasSubstr("is not a file"));
  EXPECT_THAT(error_of_line_2(R"({"file_name": "b.png", "text": ["x"]})"),
              AllOf(HasSubstr(place), HasSubstr("\"text\" is [\"x\"]")));
}

TEST_F(MetadataTest, FilesThatAreNotThereAreTold) {
  const auto examples = Parse(R"({"file_name": "none.png"})"
                              "\n"
                              R"({"file_name": "a.png"})"
                              "\n"
                              R"({"file_name": "b.png", "target_file_name": "gone.png"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  ASSERT_EQ(examples->size(), 1);
  EXPECT_EQ((*examples)[0].id, "a.png");
  ASSERT_EQ(listing_.missing.size(), 2);
  EXPECT_THAT(listing_.missing[0], AllOf(HasSubstr("folder/metadata.jsonl:1: "),
                                         HasSubstr(dir_ / "none.png"), HasSubstr("No such file")));
  EXPECT_THAT(listing_.missing[1], AllOf(HasSubstr("jsonl:3: "), HasSubstr("target_file_name")));
}

TEST_F(MetadataTest, PathsMayBeWrittenAsWindowsDoes) {
  const auto examples = Parse(R"({"file_name": "sub\\c.png"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].file_name, dir_ / "sub/c.png");
  EXPECT_EQ((*examples)[0].id, "sub/c.png");
  dir_.Write("sub\\c.png", "x");  // A file with that very name comes first.
  EXPECT_EQ((*Parse(R"({"file_name": "sub\\c.png"})"))[0].file_name, dir_ / "sub\\c.png");
  EXPECT_EQ(Parse(R"({"file_name": "sub\\none.png"})")->size(), 0);
  ASSERT_EQ(listing_.missing.size(), 1);
  EXPECT_THAT(ErrorOf(R"({"file_name": "..\\x.png"})"), HasSubstr("allowed"));
}

TEST_F(MetadataTest, EscapesOfJsonAreCharacters) {
  const auto examples = Parse(R"({"file_name": "a.png", "text": "\ud83d\ude00 \u00e9\n"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].text, "\xf0\x9f\x98\x80 \xc3\xa9\n");
}

TEST_F(MetadataTest, OtherFilesAreResolved) {
  const auto examples = Parse(
      R"({"file_name": "a.png", "target_file_name": "sub/c.png", "mask_file_name": "b.png", "n": 1})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].target_file_name, dir_ / "sub/c.png");
  EXPECT_EQ((*examples)[0].metadata,
            (nlohmann::json{{"mask_file_name", dir_ / "b.png"}, {"n", 1}}));
  EXPECT_THAT(ErrorOf(R"({"file_name": "a.png", "target_file_name": "../x.png"})"),
              AllOf(HasSubstr("jsonl:1: \"target_file_name\": "), HasSubstr("allowed")));
}

TEST_F(MetadataTest, WholeNumbersAreLabelsHoweverTheyAreWritten) {
  const auto examples = Parse(R"({"file_name": "a.png", "label": 3.0})"
                              "\n"
                              R"({"file_name": "b.png", "label": "7"})"
                              "\n"
                              R"({"file_name": "sub/c.png", "label": "4.0"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].label, 3);
  EXPECT_EQ((*examples)[1].label, 7);
  EXPECT_EQ((*examples)[2].label, 4);
  for (const char* label : {"3.5", "\"3.5\"", "1e300", "-0.1"}) {
    EXPECT_THAT(ErrorOf(std::string("\n{\"file_name\": \"a.png\", \"label\": ") + label + "}"),
                HasSubstr("folder/metadata.jsonl:2: \"label\" is"))
        << label;
  }
}

TEST_F(MetadataTest, NamesOfClassesAreIndicesIntoTheSortedNames) {
  const auto examples = Parse(R"({"file_name": "a.png", "label": "dog"})"
                              "\n"
                              R"({"file_name": "b.png", "label": "cat"})"
                              "\n"
                              R"({"file_name": "sub/c.png", "label": "dog"})");
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].label, 1);
  EXPECT_EQ((*examples)[1].label, 0);
  EXPECT_EQ((*examples)[2].label, 1);
  EXPECT_EQ((*examples)[1].metadata, (nlohmann::json{{"class", "cat"}}));
  EXPECT_EQ(listing_.examples.class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_THAT(ErrorOf("{\"file_name\": \"a.png\", \"label\": \"dog\"}\n"
                      "{\"file_name\": \"b.png\", \"label\": 2}"),
              AllOf(HasSubstr("jsonl:2: "), HasSubstr("in folder/metadata.jsonl:1 it is a name")));
}

TEST_F(MetadataTest, PromptsInAnotherColumnAreAWarning) {
  ASSERT_TRUE(Parse(R"({"file_name": "a.png", "caption": "a cat"})").ok());
  ASSERT_EQ(listing_.warnings.size(), 1);
  EXPECT_THAT(listing_.warnings[0], HasSubstr("set `data.text_column: caption`"));
  ASSERT_TRUE(Parse(R"({"file_name": "a.png", "caption": "a cat", "text": "a dog"})").ok());
  EXPECT_TRUE(listing_.warnings.empty());
  ASSERT_TRUE(Parse(R"({"file_name": "a.png", "caption": "x", "prompt": "y"})").ok());
  EXPECT_TRUE(listing_.warnings.empty());  // Which of the two is anybody's guess.
}

TEST_F(MetadataTest, RefusesBadLabelsAndIds) {
  for (const char* label : {"true", "18446744073709551615", "[7]", "\" \""}) {
    EXPECT_THAT(ErrorOf(std::string(R"({"file_name": "a.png", "label": )") + label + "}"),
                AllOf(HasSubstr(":1: \"label\""), HasSubstr("must be an integer")))
        << label;
  }
  for (const char* id : {"\"\"", "1.5", "{}"}) {
    EXPECT_THAT(ErrorOf(std::string(R"({"file_name": "a.png", "id": )") + id + "}"),
                HasSubstr("\"id\""))
        << id;
  }
}

TEST_F(MetadataTest, RefusesAnIdGivenTwice) {
  EXPECT_THAT(ErrorOf("{\"file_name\": \"a.png\"}\n{\"file_name\": \"b.png\"}\n\n"
                      "{\"file_name\": \"a.png\"}"),
              AllOf(HasSubstr(":4: "), HasSubstr("'a.png'"), HasSubstr("line 1")));
  // The same image under two ids is two examples.
  EXPECT_EQ(Parse("{\"file_name\": \"a.png\", \"id\": \"1\"}\n{\"file_name\": \"a.png\"}")->size(),
            2);
}

TEST_F(MetadataTest, RefusesFilesOutsideTheFolder) {
  const TempDir outside;
  outside.Write("secret.png", "x");
  std::filesystem::create_symlink(outside / "secret.png", dir_ / "link.png");
  for (const std::string& name : {outside / "secret.png", std::string("../x.png"),
                                  std::string("link.png"), std::string("/etc/passwd")}) {
    EXPECT_THAT(ErrorOf(R"({"file_name": ")" + name + "\"}"),
                AllOf(HasSubstr(":1: "), HasSubstr("allowed")))
        << name;
  }
  const std::string line = R"({"file_name": "link.png"})";
  const auto examples = Parse(line, {outside.path()});
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].file_name, outside / "secret.png");
}

}  // namespace
}  // namespace imageddpo
