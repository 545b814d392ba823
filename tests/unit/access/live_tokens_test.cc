#include "common/access/live_tokens.h"

#include "common/access/token_file.h"
#include "common/io/file.h"
#include "gmock/gmock.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(TokenFile, ReadsWhatItWritesAndHoldsNoToken) {
  const auto made = MakeToken("alice@lab", Role::kSubmitter, kNow, absl::Hours(24));
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->token.size(), 74U);  // "imageddpo_" and 64 digits.
  EXPECT_EQ(made->record.sha256, Sha256Hex(made->token));
  const auto other = MakeToken("bob", Role::kViewer, kNow, absl::InfiniteDuration());
  EXPECT_NE(other->token, made->token);
  const std::string text = TokensToJson({made->record, other->record});
  EXPECT_THAT(text, Not(HasSubstr(made->token.substr(10))));
  const auto read = ParseTokens(text, "tokens.json");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].id, made->record.sha256.substr(0, 8));
  EXPECT_EQ((*read)[0].owner, "alice@lab");
  EXPECT_EQ((*read)[0].role, Role::kSubmitter);
  EXPECT_EQ((*read)[0].create_time, kNow);
  EXPECT_EQ((*read)[0].expire_time, kNow + absl::Hours(24));
  EXPECT_EQ((*read)[1].expire_time, absl::InfiniteFuture());
}

TEST(TokenFile, RefusesWhatIsNone) {
  for (const char* owner : {"", "a b", "a\n", "caf\xc3\xa9"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        MakeToken(owner, Role::kAdmin, kNow, absl::InfiniteDuration()).status()))
        << owner;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(
      MakeToken(std::string(65, 'a'), Role::kAdmin, kNow, absl::InfiniteDuration()).status()));
  for (const char* text : {"", "[]", "{}", R"({"tokens": 3})", R"({"tokens": [3]})"}) {
    const auto tokens = ParseTokens(text, "x/tokens.json");
    EXPECT_TRUE(absl::IsInvalidArgument(tokens.status())) << text;
    EXPECT_THAT(std::string(tokens.status().message()), HasSubstr("x/tokens.json"));
  }
  const auto fault = [](const std::string& role, const std::string& sha256,
                        const std::string& expires) {
    return std::string(
        ParseTokens(R"({"tokens": [{"owner": "a", "role": ")" + role + R"(", "sha256": ")" +
                        sha256 + R"(", "create_time": "", "expire_time": ")" + expires + R"("}]})",
                    "f")
            .status()
            .message());
  };
  const std::string sha256(64, 'a');
  EXPECT_EQ(fault("admin", sha256, "2026-01-31T08:15:30Z"), "");
  EXPECT_THAT(fault("king", sha256, ""), HasSubstr("f: token 1 `king` is no role"));
  EXPECT_THAT(fault("admin", "short", ""), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(fault("admin", sha256, "soon"), HasSubstr("the time `soon`"));
}

TEST(LiveTokens, FollowTheFileAndTheClock) {
  const TempDir dir;
  const std::string path = dir / "tokens.json";
  absl::Time now = kNow;
  const LiveTokens tokens(path, [&now] { return now; });
  EXPECT_TRUE(absl::IsUnauthenticated(tokens.Check("").status()));
  EXPECT_TRUE(absl::IsUnauthenticated(tokens.Check("imageddpo_x").status())) << "there is no file";

  const auto alice = MakeToken("alice", Role::kSubmitter, kNow, absl::Hours(1));
  const auto bob = MakeToken("bob", Role::kViewer, kNow, absl::InfiniteDuration());
  ASSERT_TRUE(WriteTokenFile(path, {alice->record, bob->record}).ok());
  const auto caller = tokens.Check(alice->token);
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->owner, "alice");
  EXPECT_EQ(caller->role, Role::kSubmitter);
  EXPECT_TRUE(absl::IsUnauthenticated(tokens.Check(alice->record.sha256).status()));

  now += absl::Hours(1);
  const auto expired = tokens.Check(alice->token);
  EXPECT_TRUE(absl::IsUnauthenticated(expired.status()));
  EXPECT_THAT(std::string(expired.status().message()), HasSubstr("has expired"));
  EXPECT_TRUE(tokens.Check(bob->token).ok());

  ASSERT_TRUE(WriteTokenFile(path, {alice->record}).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(tokens.Check(bob->token).status())) << "was revoked";
  dir.Write("tokens.json", "{");
  EXPECT_TRUE(absl::IsUnavailable(tokens.Check(bob->token).status()));
}

}  // namespace
}  // namespace imageddpo
