// The rules of methods, the audit log, who is on the other end of a socket.

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "imageddpo/v1/service.pb.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/api/audit_log.h"
#include "trainer/controller/api/method_rules.h"
#include "trainer/controller/api/peer_listener.h"
#include "trainer/controller/api/socket_file.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

const Caller kViewer = {"vera", Role::kViewer};
const Caller kAlice = {"alice", Role::kSubmitter};
const Caller kAdmin = {"root", Role::kAdmin};

TEST(MethodRules, CoverEveryMethod) {
  const auto* const service =
      v1::SubmitJobRequest::descriptor()->file()->FindServiceByName("TrainerService");
  ASSERT_NE(service, nullptr);
  const std::set<std::string> for_admins = {"BackUpStore", "DrainWorker", "PlanRetention"};
  for (int i = 0; i < service->method_count(); ++i) {
    const std::string& method = service->method(i)->name();
    if (for_admins.contains(method)) continue;
    EXPECT_LT(RuleOf(method).role, Role::kAdmin) << method << " has no row";
  }
  EXPECT_TRUE(absl::IsPermissionDenied(CheckRole(kAlice, "BackUpStore")));
}

TEST(MethodRules, FollowRoleAndOwner) {
  EXPECT_TRUE(CheckRole(kViewer, "GetJob").ok());
  EXPECT_TRUE(CheckRole(kViewer, "WatchJob").ok());
  EXPECT_TRUE(CheckRole(kAlice, "SubmitJob").ok());
  EXPECT_TRUE(CheckRole(kAdmin, "Unheard").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckRole(kViewer, "SubmitJob")));
  EXPECT_TRUE(absl::IsPermissionDenied(CheckRole(kAlice, "Unheard")));
  EXPECT_THAT(std::string(CheckRole(kViewer, "CancelJob").message()),
              HasSubstr("CancelJob is for the role submitter; vera has the role viewer"));
  EXPECT_TRUE(CheckOwner(kAlice, "CancelJob", "alice").ok());
  EXPECT_TRUE(CheckOwner(kAdmin, "CancelJob", "alice").ok());
  EXPECT_TRUE(CheckOwner(kAdmin, "CancelJob", "").ok());
  EXPECT_TRUE(CheckOwner(kAlice, "GetJob", "bob").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckOwner(kAlice, "CancelJob", "bob")));
  EXPECT_TRUE(absl::IsPermissionDenied(CheckOwner({"", Role::kSubmitter}, "CancelJob", "")));
}

TEST(AuditLog, HasALineForEachCallAndBeginsANewFile) {
  const TempDir dir;
  const SystemClock clock;
  AuditLog log(dir / "audit.jsonl", clock, /*max_bytes=*/1);
  ASSERT_TRUE(log.Note({.caller = kAlice,
                        .is_known = true,
                        .peer = "fd:70",
                        .method = "CancelJob",
                        .job = "job-000001",
                        .status = absl::PermissionDeniedError("not \"yours\"\n")})
                  .ok());
  ASSERT_TRUE(log.Note({.method = "GetJob", .status = absl::UnauthenticatedError("who?")}).ok());
  const auto first = nlohmann::json::parse(dir.Read("audit.jsonl.1"));
  EXPECT_EQ(first["owner"], "alice");
  EXPECT_EQ(first["role"], "submitter");
  EXPECT_EQ(first["method"], "CancelJob");
  EXPECT_EQ(first["job"], "job-000001");
  EXPECT_EQ(first["allowed"], false);
  EXPECT_EQ(first["code"], "PERMISSION_DENIED");
  const auto second = nlohmann::json::parse(dir.Read("audit.jsonl"));
  EXPECT_EQ(second["role"], "");
  EXPECT_EQ(second["reason"], "who?");
}

TEST(PeerListener, KnowsTheUserOfEachConnection) {
  const TempDir dir;
  PeerUsers peers;
  std::promise<int> accepted;
  const auto listener = PeerListener::Start({dir / "s", /*is_shared=*/false}, peers,
                                            [&](int fd) { accepted.set_value(fd); });
  ASSERT_TRUE(listener.ok()) << listener.status();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (dir / "s").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int client = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const int fd = accepted.get_future().get();
  EXPECT_EQ(peers.Find("fd:" + std::to_string(fd)), ::geteuid());
  EXPECT_EQ(peers.Find("fd:" + std::to_string(fd + 1)), std::nullopt);
  EXPECT_EQ(peers.Find("ipv4:127.0.0.1:5"), std::nullopt);
  EXPECT_EQ(peers.Find("fd:x"), std::nullopt);
  ::close(fd);
  ::close(client);
}

TEST(ShareFolder, OpensAFolderToAGroupAndWhatComesInto) {
  const TempDir dir;
  const group* const own = ::getgrgid(::getgid());
  ASSERT_NE(own, nullptr);
  std::filesystem::create_directory(dir / "data");
  ASSERT_EQ(::chmod((dir / "data").c_str(), 0700), 0);
  ASSERT_TRUE(ShareFolder(dir / "data", own->gr_name).ok());
  struct stat found = {};
  ASSERT_EQ(::stat((dir / "data").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 02750u);
  EXPECT_EQ(found.st_gid, ::getgid());
  const absl::Status unknown = ShareFolder(dir / "data", "no such group");
  EXPECT_TRUE(absl::IsInvalidArgument(unknown)) << unknown;
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("`grpc.group`"));
}

}  // namespace
}  // namespace imageddpo
