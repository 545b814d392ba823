#include "common/io/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A file of a header as given and `data_bytes` zeros.
std::string FileOf(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\0');
}

std::string HeaderError(const std::string& bytes) {
  const absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(bytes, "some/file");
  if (header.ok()) return "no error";
  EXPECT_TRUE(absl::IsInvalidArgument(header.status()));
  EXPECT_THAT(std::string(header.status().message()), HasSubstr("'some/file'"));
  return std::string(header.status().message());
}

/// The error of a file with one tensor "w", whose entry is `entry`, and 8 bytes of data.
std::string ErrorOfEntry(const std::string& entry) {
  return HeaderError(FileOf(R"({"w":)" + entry + "}", 8));
}

TEST(SafetensorsHeaderTest, ReadsAWellFormedHeader) {
  const std::string bytes =
      FileOf(R"({"b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},"__metadata__":{"k":"v"},)"
             R"("a":{"shape":[],"dtype":"BF16","data_offsets":[0,2]}}  )",
             10);
  const absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(bytes, "f");
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors.size(), 2);
  EXPECT_EQ(header->tensors[0].name, "a");  // By place, not by name or order in the JSON.
  EXPECT_EQ(header->tensors[0].shape, std::vector<int64_t>{});
  EXPECT_EQ(header->tensors[0].begin, bytes.size() - 10);
  EXPECT_EQ(header->tensors[1].dtype, SafetensorsDtype::kF32);
  EXPECT_EQ(header->tensors[1].size_bytes, 8);
  EXPECT_EQ(header->metadata.at("k"), "v");
}

TEST(SafetensorsHeaderTest, AcceptsAFileWithoutTensors) {
  EXPECT_TRUE(ParseSafetensorsHeader(FileOf("{}", 0), "f").ok());
}

TEST(SafetensorsHeaderTest, RefusesBadLengths) {
  EXPECT_THAT(HeaderError(""), HasSubstr("only 0 bytes"));
  EXPECT_THAT(HeaderError("1234567"), HasSubstr("only 7 bytes"));
  EXPECT_THAT(HeaderError(std::string(8, '\xff')), HasSubstr("announce a header of"));
  EXPECT_THAT(HeaderError(FileOf("{}", 0).substr(0, 9)), HasSubstr("truncated"));
  EXPECT_THAT(HeaderError("GIF89a, some other format"), HasSubstr("another format"));
}

TEST(SafetensorsHeaderTest, RefusesWhatIsNotJson) {
  EXPECT_THAT(HeaderError(FileOf("{\"w\":", 0)), HasSubstr("not JSON"));
  EXPECT_THAT(HeaderError(FileOf("", 0)), HasSubstr("not JSON"));
  EXPECT_THAT(HeaderError(FileOf("\xff\xfe", 0)), HasSubstr("not JSON"));
  EXPECT_THAT(HeaderError(FileOf("[1]", 0)), HasSubstr("not a JSON object"));
  EXPECT_THAT(HeaderError(FileOf(std::string(100'000, '['), 0)),
              HasSubstr("more than 100 lists and objects"));
  EXPECT_THAT(HeaderError(FileOf(R"({"__metadata__":[]})", 0)), HasSubstr("__metadata__"));
  EXPECT_THAT(HeaderError(FileOf(R"({"__metadata__":{"k":1}})", 0)), HasSubstr("'k'"));
}

TEST(SafetensorsHeaderTest, RefusesANameGivenTwice) {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(HeaderError(FileOf(R"({"w":)" + entry + R"(,"w":)" + entry + "}", 0)),
              HasSubstr("'w' occurs twice"));
}

TEST(SafetensorsHeaderTest, RefusesBadEntries) {
  EXPECT_THAT(ErrorOfEntry("3"), AllOf(HasSubstr("'w'"), HasSubstr("not an object")));
  EXPECT_THAT(ErrorOfEntry("{}"), HasSubstr("dtype is missing"));
  EXPECT_THAT(ErrorOfEntry(R"({"dtype":"F32","data_offsets":[0,8]})"), HasSubstr("shape"));
  EXPECT_THAT(ErrorOfEntry(R"({"dtype":"F32","shape":[2]})"), HasSubstr("data_offsets"));
  EXPECT_THAT(ErrorOfEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"),
              HasSubstr("data_offsets"));
  EXPECT_THAT(ErrorOfEntry(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"),
              AllOf(HasSubstr("'w'"), HasSubstr("'F8_E4M3' is not supported")));
}

TEST(SafetensorsHeaderTest, RefusesBadShapes) {
  for (const char* shape : {"[-2]", "[2.0]", "[\"2\"]", "[null]", "[18446744073709551615]"}) {
    EXPECT_THAT(ErrorOfEntry(std::string(R"({"dtype":"F32","shape":)") + shape +
                             R"(,"data_offsets":[0,8]})"),
                AllOf(HasSubstr("'w'"), HasSubstr("is not a list of sizes")))
        << shape;
  }
  // 2^62 · 4 bytes wraps round to 0 in 64 bits, and so does the second product.
  for (const char* shape :
       {"[4611686018427387904]", "[4294967296,4294967296]", "[0,4294967296,4294967296]"}) {
    EXPECT_THAT(ErrorOfEntry(std::string(R"({"dtype":"F32","shape":)") + shape +
                             R"(,"data_offsets":[0,0]})"),
                HasSubstr("too large"))
        << shape;
  }
  std::string many = "[1";
  for (int i = 0; i < 100; ++i) many += ",1";
  EXPECT_THAT(ErrorOfEntry(R"({"dtype":"U8","shape":)" + many + R"(],"data_offsets":[0,1]})"),
              HasSubstr("too many dimensions"));
}

TEST(SafetensorsHeaderTest, RefusesBadOffsets) {
  const auto error_of = [](const std::string& offsets) {
    return ErrorOfEntry(R"({"dtype":"F32","shape":[2],"data_offsets":)" + offsets + "}");
  };
  EXPECT_THAT(error_of("[0,8]"), "no error");
  EXPECT_THAT(error_of("[8,0]"), HasSubstr("not a range"));
  EXPECT_THAT(error_of("[-8,0]"), HasSubstr("not a range"));
  EXPECT_THAT(error_of("[0,12]"), AllOf(HasSubstr("12 of 8"), HasSubstr("truncated")));
  EXPECT_THAT(error_of("[18446744073709551608,18446744073709551615]"), HasSubstr("truncated"));
  EXPECT_THAT(error_of("[0,4]"), HasSubstr("takes 8 bytes, data_offsets say 4"));
}

TEST(SafetensorsHeaderTest, RefusesOverlapsHolesAndLeftovers) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  EXPECT_THAT(HeaderError(FileOf(two("[0,4]", "[4,8]"), 8)), "no error");
  EXPECT_THAT(HeaderError(FileOf(two("[0,4]", "[2,6]"), 6)), HasSubstr("overlap"));
  EXPECT_THAT(HeaderError(FileOf(two("[0,4]", "[0,4]"), 4)), HasSubstr("overlap"));
  EXPECT_THAT(HeaderError(FileOf(two("[0,4]", "[6,10]"), 10)), HasSubstr("hole"));
  EXPECT_THAT(HeaderError(FileOf(two("[1,5]", "[5,9]"), 9)), HasSubstr("hole"));
  EXPECT_THAT(HeaderError(FileOf(two("[0,4]", "[4,8]"), 9)), HasSubstr("1 bytes after"));
}

TEST(SafetensorsHeaderTest, EveryTruncationOfAFileIsAnError) {
  const std::string whole =
      FileOf(R"({"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 16);
  ASSERT_TRUE(ParseSafetensorsHeader(whole, "some/file").ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(HeaderError(whole.substr(0, size)), "no error") << size;
  }
}

TEST(SafetensorsHeaderTest, EveryChangedByteIsReadOrRefused) {
  const std::string whole = FileOf(
      R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  int refused = 0;
  for (size_t i = 0; i + 16 < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      const auto header = ParseSafetensorsHeader(changed, "f");
      if (!header.ok()) {
        ++refused;
        continue;
      }
      for (const SafetensorsEntry& entry : header->tensors) {
        EXPECT_LE(entry.begin + entry.size_bytes, changed.size());
      }
    }
  }
  EXPECT_GT(refused, 400);
}

TEST(SafetensorsHeaderTest, FormatsWhatItParses) {
  SafetensorsHeader header;
  header.metadata = {{"format", "pt"}};
  header.tensors = {{"x", SafetensorsDtype::kI64, {3}, 0, 24},
                    {"ä", SafetensorsDtype::kU8, {}, 0, 1}};
  const absl::StatusOr<std::string> text = FormatSafetensorsHeader(header);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->size() % 8, 0);
  const auto parsed = ParseSafetensorsHeader(*text + std::string(25, '\0'), "f");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->metadata, header.metadata);
  EXPECT_EQ(parsed->tensors[1].name, "ä");
  EXPECT_EQ(parsed->tensors[1].begin, text->size() + 24);
}

}  // namespace
}  // namespace imageddpo
