#include "common/config/cluster_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>

#include "common/base/rejection.h"
#include "common/base/text.h"
#include "common/config/job_paths.h"
#include "common/config/service_file.h"
#include "common/config/yaml/settings_schema.h"
#include "imageddpo/v1/cluster.pb.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ClusterConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "cluster-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = fs::canonical(pattern);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Write(const std::string& text) {
    const std::string file = (folder_ / "cluster.yaml").string();
    std::ofstream(file) << text;
    return file;
  }
  std::string Refusal(const std::string& text) {
    const auto config = LoadClusterConfig(Write(text));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(config.status().message());
  }

  fs::path folder_;
};

TEST_F(ClusterConfigTest, EverySettingIsRead) {
  const auto config = LoadClusterConfig(Write(R"(
data_dir: /var/lib/imageddpo
base_dir: /srv
allowed_roots: [/srv/models, data]
grpc: { address: localhost, port: 0, insecure: true, group: ml, max_message_bytes: 70000, max_streams: 7 }
http: { address: "::1", port: 9000, insecure: true, tls: true }
access: { token_file: t, tls_certificate_file: c, tls_key_file: k, tls_client_ca_file: a }
pool: { min_ranks: 2, heartbeat_timeout_seconds: 5.5, lease_seconds: 20, stop_timeout_seconds: 90, max_restarts: 1, drain_seconds: 300 }
log: { format: json, file: logs/service.log, max_bytes: 70000, max_files: 2 }
queue: { fair_share_half_life_hours: 2.5, backfill: false, preemption: lower_priority, max_jobs: 20 }
quotas: { queued_jobs: 3, running_ranks: 4, disk_bytes: 5 }
retention: { events_days: 1.5, pictures_days: 2, checkpoints_days: 3, max_bytes: 4, min_free_bytes: 5 }
log_level: debug
)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->data_dir, "/var/lib/imageddpo");
  EXPECT_EQ(config->base_dir, "/srv");
  EXPECT_THAT(config->allowed_roots, ElementsAre("/srv/models", "data"));
  EXPECT_EQ(config->grpc.address, "localhost");
  EXPECT_EQ(config->grpc.port, 0);
  EXPECT_TRUE(config->grpc.insecure);
  EXPECT_EQ(config->grpc.group, "ml");
  EXPECT_EQ(config->grpc.max_message_bytes, 70000);
  EXPECT_EQ(config->grpc.max_streams, 7);
  EXPECT_EQ(config->http.address, "::1");
  EXPECT_EQ(config->http.port, 9000);
  EXPECT_TRUE(config->http.insecure);
  EXPECT_TRUE(config->http.tls);
  EXPECT_EQ(config->access.token_file, "t");
  EXPECT_EQ(config->access.tls_certificate_file, "c");
  EXPECT_EQ(config->access.tls_key_file, "k");
  EXPECT_EQ(config->access.tls_client_ca_file, "a");
  EXPECT_EQ(config->pool.min_ranks, 2);
  EXPECT_EQ(config->pool.heartbeat_timeout_seconds, 5.5);
  EXPECT_EQ(config->pool.lease_seconds, 20);
  EXPECT_EQ(config->pool.stop_timeout_seconds, 90);
  EXPECT_EQ(config->pool.max_restarts, 1);
  EXPECT_EQ(config->pool.drain_seconds, 300);
  EXPECT_EQ(config->log.format, "json");
  EXPECT_EQ(config->log.file, "logs/service.log");
  EXPECT_EQ(config->log.max_bytes, 70000);
  EXPECT_EQ(config->log.max_files, 2);
  EXPECT_EQ(config->queue.fair_share_half_life_hours, 2.5);
  EXPECT_FALSE(config->queue.backfill);
  EXPECT_EQ(config->queue.preemption, "lower_priority");
  EXPECT_EQ(config->queue.max_jobs, 20);
  EXPECT_EQ(config->quotas.queued_jobs, 3);
  EXPECT_EQ(config->quotas.running_ranks, 4);
  EXPECT_EQ(config->quotas.disk_bytes, 5);
  EXPECT_EQ(config->retention.events_days, 1.5);
  EXPECT_EQ(config->retention.pictures_days, 2);
  EXPECT_EQ(config->retention.checkpoints_days, 3);
  EXPECT_EQ(config->retention.max_bytes, 4);
  EXPECT_EQ(config->retention.min_free_bytes, 5);
  EXPECT_EQ(config->log_level, "debug");
  auto resolved = *config;
  resolved.grpc.insecure = resolved.http.insecure = false;
  resolved.grpc.group = "";
  resolved.http.address = "localhost";
  EXPECT_TRUE(ResolveClusterConfig(&resolved).ok()) << ResolveClusterConfig(&resolved);
  EXPECT_EQ(resolved.log.file, "/srv/logs/service.log");
}

TEST_F(ClusterConfigTest, AnEmptyFileIsTheDefaults) {
  const auto config = LoadClusterConfig(Write("# nothing\n"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->grpc.port, 50051);
  EXPECT_EQ(config->http.port, 9464);
  EXPECT_EQ(config->data_dir, "out/imageddpo");
}

TEST_F(ClusterConfigTest, TheExampleNamesEverySettingAndIsValid) {
  const std::string example =
      std::string(std::getenv("IMAGEDDPO_SOURCE_DIR")) + "/deploy/cluster.yaml";
  auto config = LoadClusterConfig(example);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(ResolveClusterConfig(&*config).ok()) << ResolveClusterConfig(&*config);
  std::ifstream stream(example);
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  for (const Setting& setting : AllSettings(*v1::ClusterFile::descriptor())) {
    EXPECT_THAT(text, HasSubstr(setting.field->name() + ":")) << setting.path;
  }
}

TEST_F(ClusterConfigTest, NamesFileLineKeyAndTheClosestOne) {
  EXPECT_THAT(Refusal("grpc:\n  prot: 1"), HasSubstr("cluster.yaml:2); did you mean `port`?"));
  EXPECT_THAT(Refusal("pol: {min_ranks: 1}"), HasSubstr("did you mean `pool`?"));
  EXPECT_THAT(Refusal("zzzzzzzz: 1"), HasSubstr("known here: data_dir, base_dir"));
  EXPECT_THAT(Refusal("grpc: {port: many}"), HasSubstr("`grpc.port`"));
  EXPECT_THAT(Refusal("grpc: {port: many}"), HasSubstr("must be a whole number, not `many`"));
  EXPECT_THAT(Refusal("grpc: {port: 1.5}"), HasSubstr("must be a whole number, not `1.5`"));
  EXPECT_THAT(Refusal("grpc: 50051"), HasSubstr("must be a section of settings"));
  EXPECT_THAT(Refusal("allowed_roots: /srv"), HasSubstr("must be a list of text, not `/srv`"));
  EXPECT_THAT(Refusal("pool: {lease_seconds: soon}"), HasSubstr("must be a number, not `soon`"));
  EXPECT_THAT(Refusal("data_dir: a\ndata_dir: b"), HasSubstr("is given twice"));
  EXPECT_THAT(Refusal("a: [b"), HasSubstr("not valid YAML"));
}

TEST_F(ClusterConfigTest, AMissingFileIsNotFound) {
  for (const std::string& file : {(folder_ / "none.yaml").string(), folder_.string()}) {
    const auto config = LoadClusterConfig(file);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(file));
  }
}

TEST_F(ClusterConfigTest, PathsBecomeAbsolute) {
  ClusterConfig config;
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  EXPECT_EQ(config.base_dir, fs::current_path().string());
  EXPECT_EQ(config.data_dir, (fs::current_path() / "out/imageddpo").string());
  EXPECT_THAT(config.allowed_roots, ElementsAre(config.base_dir));
  EXPECT_EQ(config.grpc.address, "unix:" + config.data_dir + "/api.sock");
  EXPECT_EQ(config.access.token_file, config.data_dir + "/access/tokens.json");
  EXPECT_EQ(config.access.tls_certificate_file, config.data_dir + "/access/server.pem");
  EXPECT_EQ(config.access.tls_key_file, config.data_dir + "/access/server.key");
  EXPECT_EQ(config.access.tls_client_ca_file, "");

  ClusterConfig other;
  other.access.token_file = "tokens";
  other.base_dir = "/srv/x/../y";
  other.data_dir = "jobs";
  other.allowed_roots = {"data", "/models"};
  ASSERT_TRUE(ResolveClusterConfig(&other).ok());
  EXPECT_EQ(other.base_dir, "/srv/y");
  EXPECT_EQ(other.data_dir, "/srv/y/jobs");
  EXPECT_EQ(other.access.token_file, "/srv/y/tokens");
  EXPECT_THAT(other.allowed_roots, ElementsAre("/srv/y/data", "/models"));
}

TEST_F(ClusterConfigTest, RefusesWhatCannotWork) {
  const auto refusal = [](auto change) {
    ClusterConfig config;
    change(&config);
    const absl::Status status = ResolveClusterConfig(&config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal([](auto* c) {
                c->grpc.address = "0.0.0.0";
                c->grpc.insecure = true;
              }),
              HasSubstr("`grpc.address` is `0.0.0.0`; it must be 127.0.0.1, ::1 or localhost"));
  EXPECT_THAT(refusal([](auto* c) {
                c->grpc.address = "0.0.0.0";
                c->grpc.group = "ml";
              }),
              HasSubstr("`grpc.group` is `ml`; it must be empty with TCP"));
  EXPECT_THAT(refusal([](auto* c) { c->grpc.max_streams = 0; }), HasSubstr("`grpc.max_streams`"));
  EXPECT_THAT(refusal([](auto* c) { c->grpc.max_message_bytes = 1; }),
              HasSubstr("`grpc.max_message_bytes` is 1"));
  EXPECT_THAT(refusal([](auto* c) { c->access.token_file = "~/t"; }),
              HasSubstr("`access.token_file` is `~/t`"));
  EXPECT_THAT(refusal([](auto* c) {
                c->http.address = "10.0.0.3";
                c->http.insecure = true;
              }),
              HasSubstr("`http.address`"));
  EXPECT_THAT(refusal([](auto* c) { c->data_dir = "~/jobs"; }),
              HasSubstr("`data_dir` is `~/jobs`; it must be a path without ~"));
  EXPECT_THAT(refusal([](auto* c) {
                c->allowed_roots = {"/srv", "~"};
              }),
              HasSubstr("`allowed_roots` is `~`"));
  EXPECT_THAT(refusal([](auto* c) { c->http.address = ""; }), HasSubstr("`http.address`"));
  EXPECT_THAT(refusal([](auto* c) {
                c->http.address = "127.example.org";
                c->http.insecure = true;
              }),
              HasSubstr("`http.address`"));
  EXPECT_THAT(refusal([](auto* c) { c->http.address = "unix:/run/x.sock"; }),
              HasSubstr("`http.address`"));
  EXPECT_THAT(refusal([](auto* c) { c->grpc.address = "unix:"; }), HasSubstr("`grpc.address`"));
  EXPECT_THAT(refusal([](auto* c) { c->grpc.address = "unix:/" + std::string(99, 'x'); }),
              HasSubstr("has a path of 100 bytes"));
  EXPECT_THAT(refusal([](auto* c) { c->grpc.port = 70000; }), HasSubstr("`grpc.port` is 70000"));
  EXPECT_THAT(refusal([](auto* c) {
                c->grpc.address = "localhost";
                c->http.port = c->grpc.port;
              }),
              HasSubstr("`http.port`"));
  EXPECT_THAT(refusal([](auto* c) { c->pool.min_ranks = -1; }), HasSubstr("`pool.min_ranks`"));
  EXPECT_THAT(refusal([](auto* c) { c->pool.lease_seconds = 0; }),
              HasSubstr("`pool.lease_seconds`"));
  EXPECT_THAT(refusal([](auto* c) { c->pool.max_restarts = -1; }),
              HasSubstr("`pool.max_restarts`"));
  EXPECT_THAT(refusal([](auto* c) { c->pool.drain_seconds = -1; }),
              HasSubstr("`pool.drain_seconds` is -1; it must be from 0"));
  EXPECT_THAT(refusal([](auto* c) { c->queue.fair_share_half_life_hours = -1; }),
              HasSubstr("`queue.fair_share_half_life_hours` is -1; it must be from 0"));
  EXPECT_THAT(refusal([](auto* c) { c->queue.preemption = "always"; }),
              HasSubstr("`queue.preemption` is `always`; it must be off or lower_priority"));
  EXPECT_THAT(refusal([](auto* c) { c->queue.max_jobs = 0; }), HasSubstr("`queue.max_jobs`"));
  EXPECT_THAT(refusal([](auto* c) { c->quotas.queued_jobs = -1; }),
              HasSubstr("`quotas.queued_jobs`"));
  EXPECT_THAT(refusal([](auto* c) { c->quotas.running_ranks = -1; }),
              HasSubstr("`quotas.running_ranks`"));
  EXPECT_THAT(refusal([](auto* c) { c->quotas.disk_bytes = -1; }),
              HasSubstr("`quotas.disk_bytes`"));
  EXPECT_THAT(refusal([](auto* c) { c->retention.pictures_days = -1; }),
              HasSubstr("`retention.pictures_days` is -1; it must be from 0"));
  EXPECT_THAT(refusal([](auto* c) { c->retention.max_bytes = -1; }),
              HasSubstr("`retention.max_bytes`"));
  EXPECT_THAT(refusal([](auto* c) { c->log_level = "loud"; }), HasSubstr("`log_level` is `loud`"));
  EXPECT_THAT(refusal([](auto* c) { c->log.format = "xml"; }),
              HasSubstr("`log.format` is `xml`; it must be text or json"));
  EXPECT_THAT(refusal([](auto* c) { c->log.max_bytes = 10; }), HasSubstr("`log.max_bytes`"));
  EXPECT_THAT(refusal([](auto* c) { c->log.max_files = 0; }), HasSubstr("`log.max_files`"));
}

TEST_F(ClusterConfigTest, OtherHostsAreServedThePageOverTlsAlone) {
  for (const auto& [address, asked, has_tls] :
       {std::tuple("127.0.0.1", false, false), std::tuple("::1", false, false),
        std::tuple("localhost", true, true), std::tuple("0.0.0.0", false, true),
        std::tuple("gpu1.example.com", false, true)}) {
    ClusterConfig config;
    config.http.address = address;
    config.http.tls = asked;
    ASSERT_TRUE(ResolveClusterConfig(&config).ok()) << address;
    EXPECT_EQ(config.http.tls, has_tls) << address;
  }
}

TEST_F(ClusterConfigTest, ASocketsPathStartsAtTheBase) {
  ClusterConfig config;
  config.base_dir = "/srv";
  config.grpc.address = "unix:run/api.sock";
  config.grpc.port = config.http.port;  // Has no meaning.
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  EXPECT_EQ(config.grpc.address, "unix:/srv/run/api.sock");
}

TEST_F(ClusterConfigTest, FoldersWhoseNamesAreNotUtf8) {
  EXPECT_THAT(Refusal("data_dir: caf\xe9"), HasSubstr("cluster.yaml:1: the line is not UTF-8"));
  const std::string bytes = (folder_ / "caf\xe9").string();
  fs::create_directories(bytes + "/data");
  fs::create_directory_symlink(bytes + "/data", folder_ / "link");
  ClusterConfig config;
  config.base_dir = (folder_ / "caf\\xE9").string();
  config.data_dir = "out";
  config.allowed_roots = {(folder_ / "caf\\xE9").string()};
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  EXPECT_EQ(config.base_dir, bytes);
  EXPECT_EQ(config.data_dir, bytes + "/out") << "and is made there";
  EXPECT_THAT(config.allowed_roots, ElementsAre(bytes));

  const std::string shown = (folder_ / "caf\\xE9/data").string();
  for (const std::string& path :
       {std::string("data"), shown, (folder_ / "link").string(), bytes + "/data"}) {
    const auto resolved = ResolveJobPath(config, "data.path", path);
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    EXPECT_EQ(*resolved, shown) << "fit for a message";
    EXPECT_EQ(PathOf(*resolved), bytes + "/data") << "and what is opened";
  }
  fs::create_directories(bytes + "/lit\\xE9");
  const auto literal = ResolveJobPath(config, "data.path", "lit\\xE9");
  ASSERT_TRUE(literal.ok()) << literal.status();
  EXPECT_EQ(PathOf(*literal), bytes + "/lit\\xE9");
  const auto zero = ResolveJobPath(config, "data.path", std::string("data\0x", 6));
  EXPECT_THAT(std::string(zero.status().message()), HasSubstr("zero byte"));
}

TEST(ServiceFileTest, IsReadBack) {
  const ServiceFile file{"127.0.0.1:40001", "127.0.0.1:40002", 1234, "0.1.0", true};
  const auto again = ParseServiceFile(ServiceFileToJson(file), "service.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->grpc_address, file.grpc_address);
  EXPECT_EQ(again->http_address, file.http_address);
  EXPECT_EQ(again->pid, 1234);
  EXPECT_EQ(again->version, "0.1.0");
  EXPECT_TRUE(again->tls);
}

TEST(ServiceFileTest, NamesWhatIsWrong) {
  for (const char* text : {"", "[]", "{", "{\"grpc_address\": 3}", "{}"}) {
    const auto file = ParseServiceFile(text, "x/service.json");
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("x/service.json"));
  }
}

}  // namespace
}  // namespace imageddpo
