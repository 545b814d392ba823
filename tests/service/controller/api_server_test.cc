// What surrounds the API: ports, health, reflection, metrics, the file that tells clients where it
// is.

#include "trainer/controller/api/api_server.h"

#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/logging.h"
#include "common/config/service_file.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"
#include "trainer/controller/api/trainer_service.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ApiServerTest : public ServiceTest {
 protected:
  absl::Status StartAnother(const ClusterConfig& cluster) {
    LocalControlPlane plane({1});
    auto logger = MakeLogger({.level = "off"});
    return ControllerService::Start(cluster,
                                    {plane.controller(), file_system_, clock_, *logger, {}})
        .status();
  }
  int GrpcPort() {
    const std::pair<std::string, std::string> parts = absl::StrSplit(service_->grpc_address(), ':');
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(parts.second, &port));
    return port;
  }
  std::string HttpGet(const std::string& path) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(service_->http_address(), ':');
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(parts.second, &port));
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
    EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
    std::string response(1 << 16, '\0');
    size_t size = 0;
    for (ssize_t n; (n = ::read(fd, response.data() + size, response.size() - size)) > 0;) {
      size += static_cast<size_t>(n);
    }
    ::close(fd);
    response.resize(size);
    return response;
  }
};

TEST_F(ApiServerTest, APortInUseIsToldApart) {
  Start();
  ClusterConfig cluster = cluster_;
  cluster.data_dir = dir_ / "other";
  cluster.grpc.port = GrpcPort();
  const absl::Status status = StartAnother(cluster);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("in use"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("grpc.port"));
}

TEST_F(ApiServerTest, ADataDirectoryInUseIsToldApart) {
  Start();
  const absl::Status status = StartAnother(cluster_);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("pid ", ::getpid())));
  EXPECT_THAT(std::string(status.message()), HasSubstr(cluster_.data_dir));
}

TEST_F(ApiServerTest, OnlyThisHostIsServed) {
  ClusterConfig cluster = cluster_;
  cluster.grpc.address = "0.0.0.0";
  const absl::Status status = StartAnother(cluster);
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
}

TEST_F(ApiServerTest, AUnixSocketIsForThisUserAlone) {
  const std::string path = dir_ / "api.sock";
  cluster_.grpc.address = "unix:" + path;
  Start();
  EXPECT_EQ(service_->grpc_address(), "unix:" + path);
  struct stat status {};
  ASSERT_EQ(::lstat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFSOCK | S_IRUSR | S_IWUSR);
  const auto file = ParseServiceFile(dir_.Read("data/service.json"), "service.json");
  EXPECT_EQ(file->grpc_address, "unix:" + path);
  EXPECT_EQ(WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED).progress().epoch(), 1);

  ClusterConfig other = cluster_;
  other.data_dir = dir_ / "other";
  const absl::Status in_use = StartAnother(other);
  EXPECT_TRUE(absl::IsUnavailable(in_use)) << in_use;
  EXPECT_THAT(std::string(in_use.message()), HasSubstr(path + " is in use"));
  EXPECT_EQ(Get("job-000001").state(), v1::SUCCEEDED);  // The first one still listens.
  Stop();
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path()))
    EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("api.sock")));
}

TEST_F(ApiServerTest, ASocketThatIsLeftOverIsReplacedAndAFileIsNot) {
  const std::string path = dir_ / "api.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::close(fd);
  std::filesystem::create_directory(path + ".aBcDeF");  // Of a server that was killed.
  dir_.Write("api.sock.backup/file", "somebody's");
  cluster_.grpc.address = "unix:" + path;
  Start();
  EXPECT_FALSE(std::filesystem::exists(path + ".aBcDeF"));
  EXPECT_TRUE(std::filesystem::exists(path + ".backup/file"));
  EXPECT_EQ(WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED).progress().epoch(), 1);
  Stop();

  dir_.Write("api.sock", "mine");
  const absl::Status refused = StartAnother(cluster_);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("is no socket"));
  EXPECT_EQ(dir_.Read("api.sock"), "mine");
}

/// The least that a token check can be.
class OneToken final : public TokenCheck {
 public:
  absl::StatusOr<Caller> Check(std::string_view token) const override {
    if (token != "secret") return absl::UnauthenticatedError("who are you?");
    return Caller{"alice", Role::kSubmitter};
  }
};

/// Knows no job.
class NoJobs final : public JobApi {
 public:
  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest&, const Caller&,
                                 absl::Duration) override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<v1::Job> Branch(const v1::BranchJobRequest&, const Caller&,
                                 absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Job> Do(Verb, absl::Duration) override { return absl::NotFoundError("none"); }
  absl::StatusOr<v1::Cluster> GetCluster(absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Cluster> Drain(const v1::DrainWorkerRequest&, absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Job> Get(const std::string&) const override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest&) const override {
    return v1::ListJobsResponse();
  }
};

TEST(TokenCheck, IsAskedBeforeEachCall) {
  const TempDir dir;
  const SystemClock clock;
  prometheus::Registry registry;
  ServiceMetrics metrics(registry, {}, std::chrono::system_clock::now());
  const auto store = JobStore::Open(dir / "data");
  ASSERT_TRUE(store.ok()) << store.status();
  EventHub hub;
  NoJobs jobs;
  const Endpoint endpoint{Address::Of("127.0.0.1", 0), std::make_shared<OneToken>()};
  PeerUsers peers;
  const AccessControl access(endpoint, peers, nullptr);
  const auto service = MakeTrainerService({access, jobs, **store, hub, metrics, clock});
  const auto server =
      ApiServer::Start(endpoint, {}, peers, "imageddpo.v1.TrainerService", *service);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto stub = v1::TrainerService::NewStub(
      grpc::CreateChannel((*server)->address().ToString(), grpc::InsecureChannelCredentials()));
  /// The codes of a call that gets an answer, of a verb and of a watch.
  const auto codes = [&](const std::string& authorization) {
    const auto prepare = [&](grpc::ClientContext* context) {
      context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
      if (!authorization.empty()) context->AddMetadata("authorization", authorization);
    };
    grpc::ClientContext list, cancel, watch;
    for (grpc::ClientContext* context : {&list, &cancel, &watch}) prepare(context);
    v1::ListJobsResponse listed;
    v1::Job job;
    v1::JobEvent event;
    const auto reader = stub->WatchJob(&watch, v1::WatchJobRequest());
    while (reader->Read(&event)) {
    }
    return std::vector<grpc::StatusCode>{
        stub->ListJobs(&list, v1::ListJobsRequest(), &listed).error_code(),
        stub->CancelJob(&cancel, v1::CancelJobRequest(), &job).error_code(),
        reader->Finish().error_code()};
  };
  using grpc::StatusCode;
  const auto refused = ElementsAre(StatusCode::UNAUTHENTICATED, StatusCode::UNAUTHENTICATED,
                                   StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(codes(""), refused);
  EXPECT_THAT(codes("Bearer other"), refused);
  EXPECT_THAT(codes("Bearer secret"),
              ElementsAre(StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
}

TEST_F(ApiServerTest, TheServiceFileTellsWhereItIs) {
  Start();
  const auto file = ParseServiceFile(dir_.Read("data/service.json"), "service.json");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->grpc_address, service_->grpc_address());
  EXPECT_EQ(file->http_address, service_->http_address());
  EXPECT_EQ(file->pid, ::getpid());
  EXPECT_NE(GrpcPort(), 0);
  Stop();
  EXPECT_EQ(dir_.Read("data/service.json"), "");
}

// The wire form of grpc.health.v1: a request {1: service}, a response {1: status}, 1 = SERVING.
grpc::Status CheckHealth(const std::string& address, const std::string& service,
                         std::string* answer) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const std::string request =
      absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
  const grpc::Slice slice(request);
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                          grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  std::vector<grpc::Slice> slices;
  if (status.ok() && response.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices)
      answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

TEST_F(ApiServerTest, HealthServiceAnswers) {
  Start();
  std::string answer;
  EXPECT_TRUE(CheckHealth(service_->grpc_address(), "", &answer).ok());
  EXPECT_EQ(answer, "\x08\x01");
  answer.clear();
  EXPECT_TRUE(CheckHealth(service_->grpc_address(), "imageddpo.v1.TrainerService", &answer).ok());
  EXPECT_EQ(answer, "\x08\x01");
}

TEST_F(ApiServerTest, MetricsAndHealthzAreServed) {
  Start();
  const v1::Job job = WaitFor(MustSubmit(JobOf(3)).id(), v1::SUCCEEDED);
  // The ranks are released a moment after the job has its state.
  std::string metrics;
  for (int i = 0; i < 100 && !absl::StrContains(metrics, "imageddpo_workers{state=\"idle\"} 2");
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    metrics = HttpGet("/metrics");
  }
  EXPECT_THAT(metrics,
              HasSubstr("imageddpo_job_epoch{job_id=\"job-000001\",job_name=\"scripted\"} 3"));
  EXPECT_THAT(
      metrics,
      HasSubstr("imageddpo_job_reward_mean{job_id=\"job-000001\",job_name=\"scripted\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("imageddpo_jobs{state=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("imageddpo_jobs{state=\"RUNNING\"} 0"));
  EXPECT_THAT(metrics, HasSubstr("imageddpo_workers{state=\"idle\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("imageddpo_worker_heartbeat_age_seconds{rank=\"1\"}"));
  EXPECT_THAT(
      metrics,
      HasSubstr("imageddpo_job_checkpoint_epoch{job_id=\"job-000001\",job_name=\"scripted\"} 3"));
  EXPECT_THAT(metrics, HasSubstr("imageddpo_rpcs_total{code=\"OK\",method=\"SubmitJob\"} 1"));
  EXPECT_THAT(HttpGet("/healthz"), HasSubstr("200 OK"));
}

}  // namespace
}  // namespace imageddpo
