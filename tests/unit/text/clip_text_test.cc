#include "common/text/clip_text.h"

#include <gtest/gtest.h>

namespace imageddpo {
namespace {

using Words = std::vector<std::string_view>;

TEST(SanitizeUtf8, ReplacesEachMalformedByte) {
  EXPECT_EQ(SanitizeUtf8("caf\u00e9 \U0001F600"), "caf\u00e9 \U0001F600");
  EXPECT_EQ(SanitizeUtf8("a\xffz"), "a\uFFFDz");
  EXPECT_EQ(SanitizeUtf8("a\xe2\x82"), "a\uFFFD\uFFFD");  // Cut off.
  EXPECT_EQ(SanitizeUtf8("\xed\xa0\x80").size(), 9u);     // A surrogate.
  EXPECT_EQ(SanitizeUtf8(std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(NormalizeClipText, ComposesLowersAndJoinsSpaces) {
  EXPECT_EQ(NormalizeClipText("  A\t\r\n CAT\u00a0\u3000! "), " a cat ! ");
  EXPECT_EQ(NormalizeClipText("Cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(NormalizeClipText("\u0130"), "i\u0307");                         // Two characters.
  EXPECT_EQ(NormalizeClipText("\u03a3\u0391\u03a3"), "\u03c3\u03b1\u03c3");  // No final sigma.
  EXPECT_EQ(NormalizeClipText("\u1100\u1161"), "\uac00");                    // Hangul.
  EXPECT_EQ(NormalizeClipText("\U00010d50\ua7cb"), "\U00010d70\u0264");      // Unicode 16.
  EXPECT_EQ(NormalizeClipText(""), "");
}

TEST(SplitClipWords, CutsAsClipDoes) {
  EXPECT_EQ(SplitClipWords("a photo, of 12 cats"),
            (Words{"a", "photo", ",", "of", "1", "2", "cats"}));
  EXPECT_EQ(SplitClipWords("it's they're i'm x'y"),
            (Words{"it", "'s", "they", "'re", "i", "'m", "x", "'", "y"}));
  EXPECT_EQ(SplitClipWords("!'s"), (Words{"!'", "s"}));  // Runs of punctuation include it.
  EXPECT_EQ(SplitClipWords("((x))..."), (Words{"((", "x", "))..."}));
  EXPECT_EQ(SplitClipWords("\u00bd\u0661"), (Words{"\u00bd", "\u0661"}));
  EXPECT_EQ(SplitClipWords("a<|endoftext|>!"), (Words{"a", "<|", "endoftext", "|>", "!"}));
  EXPECT_EQ(SplitClipWords("e\u0301"), (Words{"e", "\u0301"}));  // Marks are no letters.
  EXPECT_EQ(SplitClipWords("\U0002ebf0\U00010d40"), (Words{"\U0002ebf0", "\U00010d40"}));
  EXPECT_EQ(SplitClipWords("  "), Words{});
}

}  // namespace
}  // namespace imageddpo
