#include "common/base/text.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

TEST(ValidText, LeavesUtf8AsItIs) {
  for (const std::string text :
       {"", "cat.png", "caf\xc3\xa9", "\xf0\x9f\x90\xb1", "a\\b", "\\x", "\\xe9", "a\nb"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
    EXPECT_EQ(ValidText(text), text);
  }
}

TEST(ValidText, WritesOtherBytesAsHexadecimal) {
  EXPECT_EQ(ValidText("caf\xe9.png"), "caf\\xE9.png");
  EXPECT_EQ(ValidText("\xc3"), "\\xC3");                             // The rest is missing.
  EXPECT_EQ(ValidText("\xc0\xaf"), "\\xC0\\xAF");                    // Longer than need be.
  EXPECT_EQ(ValidText("\xed\xa0\x80"), "\\xED\\xA0\\x80");           // A surrogate.
  EXPECT_EQ(ValidText("\xf4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80");  // Above U+10FFFF.
  EXPECT_EQ(ValidText("\xff\xfe" + std::string("a\0", 2)), "\\xFF\\xFE" + std::string("a\0", 2));
  EXPECT_EQ(ValidText("\xe9\\\xc3\xa9"), "\\xE9\\x5C\xc3\xa9");
}

TEST(ValidText, KeepsDifferentTextsApart) {
  const std::set<std::string> texts = {"caf\xe9",        "caf\\xE9",     "caf\\x5CxE9",
                                       "caf\\\xe9",      "caf\\x5C\xe9", "caf\\x5C\\xE9",
                                       "caf\\x5Cx5CxE9", "caf\\",        "caf\xc3\xa9"};
  std::set<std::string> found;
  for (const std::string& text : texts) {
    found.insert(ValidText(text));
    EXPECT_TRUE(IsValidUtf8(ValidText(text)));
  }
  EXPECT_EQ(found.size(), texts.size());
}

TEST(BytesOf, IsTheWayBackFromValidText) {
  for (const std::string& text :
       {std::string("cat.png"), std::string("caf\xe9"), std::string("caf\\xE9"),
        std::string("caf\\\xe9"), std::string("\\x5C\xff"), std::string("a\\b"),
        std::string("caf\xc3\xa9"), std::string("\xe9\0", 2), std::string()}) {
    EXPECT_EQ(BytesOf(ValidText(text)), text);
  }
  for (const std::string text : {"\\x41", "\\xe9", "a\\b\\xE9", "\xe9\\xE9"}) {
    EXPECT_EQ(BytesOf(text), text) << "is nobody's ValidText()";
  }
}

TEST(PathOf, MeansTheNameThatIsShown) {
  const TempDir dir;
  EXPECT_EQ(PathOf("caf\\xE9", dir.path()), "caf\xe9") << "neither is there: one to be made";
  dir.Write("caf\\xE9", "");
  EXPECT_EQ(PathOf("caf\\xE9", dir.path()), "caf\\xE9") << "as it is written, alone";
  dir.Write("caf\xe9", "");
  EXPECT_EQ(PathOf("caf\\xE9", dir.path()), "caf\xe9");
  EXPECT_EQ(PathOf("caf\\x5CxE9", dir.path()), "caf\\xE9") << "both can be named";
  EXPECT_EQ(PathOf(dir / "caf\\xE9"), dir / "caf\xe9");
  EXPECT_EQ(PathOf("other.png", dir.path()), "other.png");
}

TEST(ValidMessage, LeavesWhatIsEscapedAlready) {
  EXPECT_EQ(ValidMessage("'caf\\xE9': cannot open /caf\xe9"), "'caf\\xE9': cannot open /caf\\xE9");
  EXPECT_EQ(ValidMessage("a\nb"), "a\nb");
}

TEST(Printable, EscapesWhatMovesTheCursor) {
  EXPECT_EQ(Printable("a\x1b[31mb\r\n\x7f"), "a\\x1B[31mb\\x0D\\x0A\\x7F");
  EXPECT_EQ(Printable("a\nb\t", true), "a\nb\\x09");
  EXPECT_EQ(Printable("naïve ▁ \xf0\x9f\x90\xb1 \\xE9"), "naïve ▁ \xf0\x9f\x90\xb1 \\xE9");
  EXPECT_EQ(Printable("caf\xe9"), "caf\\xE9");
  EXPECT_EQ(Printable("\u009b31m"), "\\xC2\\x9B31m");               // The control character in one.
  EXPECT_EQ(Printable("gnp.\u202egnp"), "gnp.\\xE2\\x80\\xAEgnp");  // Turns the direction.
  EXPECT_EQ(Printable("a\u2028b"), "a\\xE2\\x80\\xA8b");
  EXPECT_EQ(Printable(std::string("\0", 1)), "\\x00");
}

TEST(PrintableJson, ReadsBackTheSame) {
  EXPECT_EQ(PrintableJson("{\n \"a\": \"\u009b \u202e é \x7f\"}"),
            "{\n \"a\": \"\\u009b \\u202e é \\u007f\"}");
}

TEST(Excerpt, CutsBetweenCharacters) {
  EXPECT_EQ(Excerpt("abc", 3), "abc");
  EXPECT_EQ(Excerpt("abcd", 3), "abc…");
  EXPECT_EQ(Excerpt("ab\xc3\xa9", 3), "ab…");
  EXPECT_EQ(Excerpt("ab\xf0\x9f\x90\xb1 and more", 4), "ab…");
  EXPECT_EQ(Excerpt("\xe9\xe9\xe9", 6), "\\xE9\\x…") << "an escape is text by now";
  EXPECT_EQ(Excerpt(std::string("\0\0\0", 3), 2), std::string("\0\0", 2) + "…");
  EXPECT_EQ(Excerpt("", 0), "");
}

TEST(Utf8Of, NamesFileLineAndRemedy) {
  const auto error = [](std::string_view bytes) {
    return std::string(Utf8Of(bytes, "dir/a.json").status().message());
  };
  EXPECT_EQ(*Utf8Of("{}", "f"), "{}");
  EXPECT_EQ(*Utf8Of("\xef\xbb\xbf{}", "f"), "{}");
  EXPECT_EQ(*Utf8Of("", "f"), "");
  for (const std::string& text :
       {std::string("\xff\xfe{\0", 4), std::string("\xfe\xff\0{", 4), std::string("{\0\"\0", 4)}) {
    EXPECT_EQ(error(text), "dir/a.json is text in UTF-16 or UTF-32; save it as UTF-8");
  }
  EXPECT_EQ(error("{\n\"caf\xe9\"\n}"),
            "dir/a.json:2: the line is not UTF-8: \"caf\\xE9\"; save the file as UTF-8");
  EXPECT_EQ(error("\xc0\xaf"),
            "dir/a.json:1: the line is not UTF-8: \\xC0\\xAF; save the file as UTF-8");
}

TEST(CheckJsonDepth, RefusesWhatWouldUseUpTheStack) {
  const auto nested = [](int levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_TRUE(CheckJsonDepth(nested(kMostJsonLevels), "a.json").ok());
  const absl::Status refused = CheckJsonDepth(nested(kMostJsonLevels + 1), "a.json");
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(refused.message()),
            "a.json: more than 100 lists and objects stand in each other");
  const std::string levels(kMostJsonLevels + 1, '{');
  EXPECT_FALSE(CheckJsonDepth(levels, "a.json").ok()) << "cut off, too";
  EXPECT_TRUE(CheckJsonDepth("[\"" + levels + "\\\"" + levels + "\"]", "a.json").ok()) << "a text";
  std::string many;
  for (int i = 0; i <= kMostJsonLevels; ++i) many += "[{}],";
  EXPECT_TRUE(CheckJsonDepth(many, "a.json").ok()) << "beside each other";
}

}  // namespace
}  // namespace imageddpo
