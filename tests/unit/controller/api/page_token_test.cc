#include "trainer/controller/api/page_token.h"

#include <limits>

#include "gtest/gtest.h"

namespace imageddpo {
namespace {

TEST(PageToken, RoundTrips) {
  for (const int64_t number : {int64_t{1}, int64_t{42}, int64_t{1} << 40}) {
    EXPECT_EQ(ReadPageToken(MakePageToken(number)).value(), number);
  }
  EXPECT_EQ(ReadPageToken("").value(), std::numeric_limits<int64_t>::max());
}

TEST(PageToken, KnowsItsOwn) {
  const std::string token = MakePageToken(42);
  for (const std::string& other :
       {std::string("42"), std::string("x"), std::string("-"), "1" + token, token + " ",
        token.substr(0, token.size() - 1), MakePageToken(41).substr(0, 2) + token.substr(2),
        std::string("-1-00000000"), std::string("99999999999999999999-00000000")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ReadPageToken(other).status())) << other;
  }
}

}  // namespace
}  // namespace imageddpo
