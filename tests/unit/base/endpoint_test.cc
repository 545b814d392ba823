#include "common/base/endpoint.h"

#include "gmock/gmock.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

TEST(Address, ReadsWhatItPrints) {
  for (const char* text : {"127.0.0.1:50051", "a.host:1", "[::1]:65535", "unix:/run/x.sock",
                           "unix:relative.sock", "[fe80::1%eth0]:2"}) {
    const auto address = Address::Parse(text);
    ASSERT_TRUE(address.ok()) << text << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
  EXPECT_EQ(Address::Parse("[::1]:2")->host, "::1");
  EXPECT_EQ(Address::Parse("::1:2")->ToString(), "[::1]:2");
  EXPECT_EQ(Address::Parse("unix:/run/x.sock")->unix_path, "/run/x.sock");
}

TEST(Address, RefusesWhatIsNone) {
  for (const char* text :
       {"", "a", "a:", ":1", "a:0", "a:-1", "a:65536", "http://a:1", "a b:1", "a:b", "unix:"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Address::Parse(text).status())) << text;
  }
}

TEST(Address, IsMadeFromSettings) {
  EXPECT_EQ(Address::Of("127.0.0.1", 0).ToString(), "127.0.0.1:0");
  EXPECT_EQ(Address::Of("::1", 7).ToString(), "[::1]:7");
  EXPECT_EQ(Address::Of("[::1]", 7).ToString(), "[::1]:7");
  EXPECT_EQ(Address::Of("unix:/a", 7).ToString(), "unix:/a");
}

TEST(Address, KnowsWhatOnlyThisHostReaches) {
  for (const char* host :
       {"127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "unix:/run/x.sock"}) {
    EXPECT_TRUE(Address::Of(host, 1).IsLocal()) << host;
  }
  for (const char* host : {"127.0.0.1.example.com", "10.0.0.1", "::", "0.0.0.0", "", "unix:"}) {
    EXPECT_FALSE(Address::Of(host, 1).IsLocal()) << host;
  }
}

TEST(Address, SaysWhyAPathCannotBeASocket) {
  const auto why = [](const std::string& path) {
    return std::string(CheckUnixPath(path).message());
  };
  EXPECT_EQ(why("/" + std::string(kMaxUnixPathBytes - 1, 'x')), "");
  EXPECT_THAT(why("/" + std::string(kMaxUnixPathBytes, 'x')), HasSubstr("99 bytes"));
  EXPECT_THAT(why("/a b"), HasSubstr("white space"));
  EXPECT_THAT(why("/a%20b"), HasSubstr("`%`"));
  EXPECT_THAT(why(""), HasSubstr("no path"));
}

TEST(BearerToken, IsTheRestOfTheHeader) {
  EXPECT_EQ(BearerToken("Bearer secret"), "secret");
  EXPECT_EQ(BearerToken("Basic secret"), "");
  EXPECT_EQ(BearerToken(""), "");
}

}  // namespace
}  // namespace imageddpo
