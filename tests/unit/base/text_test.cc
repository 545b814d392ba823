#include "common/base/text.h"

#include <gtest/gtest.h>

#include <set>

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

}  // namespace
}  // namespace imageddpo
