#include "common/config/cluster_config.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/endpoint.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/reward_service.h"
#include "common/config/yaml/yaml_source.h"
#include "common/config/yaml/yaml_to_json.h"
#include "imageddpo/v1/cluster.pb.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMostFileBytes = 16 << 20;
constexpr int64_t kMostRanks = 1'000'000;
constexpr int64_t kMostRestarts = 1'000'000;
constexpr double kMostDrainSeconds = 86'400;
constexpr int64_t kFewestMessageBytes = 64 << 10;
constexpr int64_t kMostMessageBytes = 64 << 20;
constexpr int64_t kMostStreams = 100'000;
constexpr int64_t kFewestLogBytes = 64 << 10;
constexpr int64_t kMostLogBytes = int64_t{1} << 40;
constexpr int64_t kMostLogFiles = 1000;
constexpr double kMostHalfLifeHours = 100'000;
constexpr int64_t kMostJobs = 1'000'000;
constexpr double kMostDays = 100'000;
constexpr char kDefaultSocket[] = "unix:api.sock";  // In data_dir.

// What the file says, over the defaults.
ClusterConfig WithDefaults(const v1::ClusterFile& file) {
  ClusterConfig config;
  const auto read_listen = [](const auto& spec, auto* listen) {
    if (spec.has_address()) listen->address = spec.address();
    if (spec.has_port()) listen->port = spec.port();
    if (spec.has_insecure()) listen->insecure = spec.insecure();
  };
  if (file.has_data_dir()) config.data_dir = file.data_dir();
  if (file.has_base_dir()) config.base_dir = file.base_dir();
  config.allowed_roots = {file.allowed_roots().begin(), file.allowed_roots().end()};
  config.rewards_allow = {file.rewards().allow().begin(), file.rewards().allow().end()};
  if (file.has_log_level()) config.log_level = file.log_level();
  if (file.log().has_format()) config.log.format = file.log().format();
  config.log.file = file.log().file();
  if (file.log().has_max_bytes()) config.log.max_bytes = file.log().max_bytes();
  if (file.log().has_max_files()) config.log.max_files = file.log().max_files();
  read_listen(file.grpc(), &config.grpc);
  read_listen(file.http(), &config.http);
  if (file.http().has_tls()) config.http.tls = file.http().tls();
  config.grpc.group = file.grpc().group();
  if (file.grpc().has_max_message_bytes())
    config.grpc.max_message_bytes = file.grpc().max_message_bytes();
  if (file.grpc().has_max_streams()) config.grpc.max_streams = file.grpc().max_streams();
  config.access = {.token_file = file.access().token_file(),
                   .tls_certificate_file = file.access().tls_certificate_file(),
                   .tls_key_file = file.access().tls_key_file(),
                   .tls_client_ca_file = file.access().tls_client_ca_file()};
  const v1::PoolSpec& pool = file.pool();
  if (pool.has_min_ranks()) config.pool.min_ranks = pool.min_ranks();
  if (pool.has_heartbeat_timeout_seconds())
    config.pool.heartbeat_timeout_seconds = pool.heartbeat_timeout_seconds();
  if (pool.has_lease_seconds()) config.pool.lease_seconds = pool.lease_seconds();
  if (pool.has_stop_timeout_seconds())
    config.pool.stop_timeout_seconds = pool.stop_timeout_seconds();
  if (pool.has_max_restarts()) config.pool.max_restarts = pool.max_restarts();
  if (pool.has_drain_seconds()) config.pool.drain_seconds = pool.drain_seconds();
  const v1::QueueSpec& queue = file.queue();
  if (queue.has_fair_share_half_life_hours())
    config.queue.fair_share_half_life_hours = queue.fair_share_half_life_hours();
  if (queue.has_backfill()) config.queue.backfill = queue.backfill();
  if (queue.has_preemption()) config.queue.preemption = queue.preemption();
  if (queue.has_max_jobs()) config.queue.max_jobs = queue.max_jobs();
  config.quotas = {.queued_jobs = file.quotas().queued_jobs(),
                   .running_ranks = file.quotas().running_ranks(),
                   .disk_bytes = file.quotas().disk_bytes()};
  config.retention = {.events_days = file.retention().events_days(),
                      .pictures_days = file.retention().pictures_days(),
                      .checkpoints_days = file.retention().checkpoints_days(),
                      .max_bytes = file.retention().max_bytes(),
                      .min_free_bytes = file.retention().min_free_bytes()};
  return config;
}

using Access = decltype(ClusterConfig::access);

std::vector<std::pair<std::string, std::string*>> FilesOf(Access* access) {
  return {{"access.token_file", &access->token_file},
          {"access.tls_certificate_file", &access->tls_certificate_file},
          {"access.tls_key_file", &access->tls_key_file},
          {"access.tls_client_ca_file", &access->tls_client_ca_file}};
}

// Without a slash at the end.
std::string Absolute(const fs::path& base, const std::string& path) {
  const fs::path absolute = (base / PathOf(path, base.string())).lexically_normal();
  return absolute.has_filename() ? absolute.string() : absolute.parent_path().string();
}

}  // namespace

absl::StatusOr<ClusterConfig> LoadClusterConfig(const std::string& file) {
  std::error_code error;
  std::ifstream stream(file, std::ios::binary);
  if (fs::is_directory(file, error) || !stream) {
    return absl::NotFoundError(absl::StrCat(
        file, " cannot be read; deploy/cluster.yaml is an example with every setting"));
  }
  if (const uintmax_t bytes = fs::file_size(file, error); !error && bytes > kMostFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has ", bytes,
                                                   " bytes; a file of settings has at most ",
                                                   kMostFileBytes, ": is it the right one?"));
  }
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  IMAGEDDPO_ASSIGN_OR_RETURN(const YAML::Node root, LoadYamlMap(text, file));
  v1::ClusterFile settings;
  IMAGEDDPO_RETURN_IF_ERROR(ReadYamlSettings(root, file, &settings));
  return WithDefaults(settings);
}

absl::Status ResolveClusterConfig(ClusterConfig* config) {
  std::vector<std::string> faults;
  const auto check = [&](bool ok, const std::string& setting, const std::string& value,
                         const std::string& must) {
    if (!ok) faults.push_back(absl::StrCat("`", setting, "` is ", value, "; it must be ", must));
  };
  const Address grpc =
      Address::Of(config->grpc.address.empty() ? kDefaultSocket : config->grpc.address, 0);
  const Address http = Address::Of(config->http.address, 0);
  for (const auto& [setting, port] :
       {std::pair("grpc.port", config->grpc.port), std::pair("http.port", config->http.port)}) {
    check(port >= 0 && port <= 65535, setting, absl::StrCat(port), "from 0 (a free one) to 65535");
  }
  check(grpc.is_unix() || !grpc.host.empty(), "grpc.address",
        absl::StrCat("`", config->grpc.address, "`"), "unix:PATH or an address of this host");
  check(!config->grpc.insecure || grpc.IsLocal(), "grpc.address",
        absl::StrCat("`", config->grpc.address, "`"),
        "127.0.0.1, ::1 or localhost with `grpc.insecure`; other hosts are served with TLS and "
        "tokens, see docs/security.md");
  check(config->grpc.group.empty() || grpc.is_unix(), "grpc.group",
        absl::StrCat("`", config->grpc.group, "`"), "empty with TCP: tokens say who may call");
  check(!http.host.empty(), "http.address", absl::StrCat("`", config->http.address, "`"),
        "an address of this host, as 127.0.0.1; the HTTP server has no Unix sockets");
  check(!config->http.insecure || http.host.empty() || http.IsLocal(), "http.address",
        absl::StrCat("`", config->http.address, "`"),
        "127.0.0.1, ::1 or localhost with `http.insecure`; other hosts are served with TLS and "
        "tokens, see docs/security.md");
  check(grpc.is_unix() || config->grpc.port == 0 || config->grpc.port != config->http.port,
        "http.port", absl::StrCat(config->http.port), "another than `grpc.port`");
  check(config->grpc.max_message_bytes >= kFewestMessageBytes &&
            config->grpc.max_message_bytes <= kMostMessageBytes,
        "grpc.max_message_bytes", absl::StrCat(config->grpc.max_message_bytes),
        absl::StrCat("from ", kFewestMessageBytes, " to ", kMostMessageBytes));
  check(config->grpc.max_streams >= 1 && config->grpc.max_streams <= kMostStreams,
        "grpc.max_streams", absl::StrCat(config->grpc.max_streams),
        absl::StrCat("from 1 to ", kMostStreams));
  check(config->pool.min_ranks >= 0 && config->pool.min_ranks <= kMostRanks, "pool.min_ranks",
        absl::StrCat(config->pool.min_ranks), absl::StrCat("from 0 (all) to ", kMostRanks));
  for (const auto& [setting, seconds] :
       {std::pair("pool.heartbeat_timeout_seconds", config->pool.heartbeat_timeout_seconds),
        std::pair("pool.lease_seconds", config->pool.lease_seconds),
        std::pair("pool.stop_timeout_seconds", config->pool.stop_timeout_seconds)}) {
    check(std::isfinite(seconds) && seconds >= 1 && seconds <= 3600, setting, absl::StrCat(seconds),
          "from 1 to 3600");
  }
  check(config->pool.max_restarts >= 0 && config->pool.max_restarts <= kMostRestarts,
        "pool.max_restarts", absl::StrCat(config->pool.max_restarts),
        absl::StrCat("from 0 to ", kMostRestarts));
  const double drain_s = config->pool.drain_seconds;
  check(std::isfinite(drain_s) && drain_s >= 0 && drain_s <= kMostDrainSeconds,
        "pool.drain_seconds", absl::StrCat(drain_s),
        absl::StrCat("from 0 (a stop waits for no epoch) to ", kMostDrainSeconds));
  const double half_life_h = config->queue.fair_share_half_life_hours;
  check(std::isfinite(half_life_h) && half_life_h >= 0 && half_life_h <= kMostHalfLifeHours,
        "queue.fair_share_half_life_hours", absl::StrCat(half_life_h),
        absl::StrCat("from 0 (jobs come in the order of submission) to ", kMostHalfLifeHours));
  check(config->queue.preemption == "off" || config->queue.preemption == "lower_priority",
        "queue.preemption", absl::StrCat("`", config->queue.preemption, "`"),
        "off or lower_priority");
  check(config->queue.max_jobs >= 1 && config->queue.max_jobs <= kMostJobs, "queue.max_jobs",
        absl::StrCat(config->queue.max_jobs), absl::StrCat("from 1 to ", kMostJobs));
  check(config->quotas.queued_jobs >= 0 && config->quotas.queued_jobs <= kMostJobs,
        "quotas.queued_jobs", absl::StrCat(config->quotas.queued_jobs),
        absl::StrCat("from 0 (no limit) to ", kMostJobs));
  check(config->quotas.running_ranks >= 0 && config->quotas.running_ranks <= kMostRanks,
        "quotas.running_ranks", absl::StrCat(config->quotas.running_ranks),
        absl::StrCat("from 0 (no limit) to ", kMostRanks));
  for (const auto& [setting, days] :
       {std::pair("retention.events_days", config->retention.events_days),
        std::pair("retention.pictures_days", config->retention.pictures_days),
        std::pair("retention.checkpoints_days", config->retention.checkpoints_days)}) {
    check(std::isfinite(days) && days >= 0 && days <= kMostDays, setting, absl::StrCat(days),
          absl::StrCat("from 0 (kept for ever) to ", kMostDays));
  }
  for (const auto& [setting, bytes] :
       {std::pair("quotas.disk_bytes", config->quotas.disk_bytes),
        std::pair("retention.max_bytes", config->retention.max_bytes),
        std::pair("retention.min_free_bytes", config->retention.min_free_bytes)}) {
    check(bytes >= 0, setting, absl::StrCat(bytes), "0 (no limit) or more");
  }
  if (config->log_level == "warn") config->log_level = "warning";
  const std::set<std::string> levels = {"trace", "debug", "info", "warning", "error", "off"};
  check(levels.contains(config->log_level), "log_level", absl::StrCat("`", config->log_level, "`"),
        "trace, debug, info, warning, error or off");
  check(config->log.format == "text" || config->log.format == "json", "log.format",
        absl::StrCat("`", config->log.format, "`"), "text or json");
  check(config->log.max_bytes >= kFewestLogBytes && config->log.max_bytes <= kMostLogBytes,
        "log.max_bytes", absl::StrCat(config->log.max_bytes),
        absl::StrCat("from ", kFewestLogBytes, " to ", kMostLogBytes));
  check(config->log.max_files >= 1 && config->log.max_files <= kMostLogFiles, "log.max_files",
        absl::StrCat(config->log.max_files), absl::StrCat("from 1 to ", kMostLogFiles));
  for (const std::string& entry : config->rewards_allow) {
    check(IsRewardsAllowEntry(entry), "rewards.allow", absl::StrCat("`", Excerpt(entry, 200), "`"),
          "`local`, HOST or HOST:PORT, where HOST may begin with `*.` or be `*`; an absolute path, "
          "in which `*` and `?` stand for characters but `/`; or `sha256:` and 64 digits");
  }
  check(!config->data_dir.empty(), "data_dir", "empty", "a folder");
  std::vector<std::pair<std::string, std::string>> paths = {{"data_dir", config->data_dir},
                                                            {"base_dir", config->base_dir},
                                                            {"log.file", config->log.file}};
  for (const std::string& root : config->allowed_roots) paths.emplace_back("allowed_roots", root);
  for (const auto& [setting, path] : FilesOf(&config->access)) paths.emplace_back(setting, *path);
  for (const auto& [setting, path] : paths) {
    check(path.empty() || path[0] != '~', setting, absl::StrCat("`", path, "`"),
          "a path without ~, which only a shell replaces: write the home folder out, or ./~ for a "
          "folder of that name");
  }
  if (!faults.empty()) return absl::InvalidArgumentError(absl::StrJoin(faults, "\n"));

  std::error_code error;
  const fs::path working_dir = fs::current_path(error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("the working directory cannot be read: ", error.message()));
  }
  config->http.tls = config->http.tls || !http.IsLocal();
  config->base_dir = Absolute(working_dir, config->base_dir);
  config->data_dir = Absolute(config->base_dir, config->data_dir);
  if (!config->log.file.empty()) config->log.file = Absolute(config->base_dir, config->log.file);
  if (grpc.is_unix()) {
    const std::string& folder = config->grpc.address.empty() ? config->data_dir : config->base_dir;
    const Address absolute{.unix_path = Absolute(folder, grpc.unix_path)};
    config->grpc.address = absolute.ToString();
    if (const absl::Status path = CheckUnixPath(absolute.unix_path); !path.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("`grpc.address`, which is `", config->grpc.address, "`, ", path.message(),
                       "; set it to another path, as `unix:/run/user/1000/imageddpo.sock`"));
    }
  }
  const std::string access_dir = config->data_dir + "/access/";
  for (const auto& [setting, path] : FilesOf(&config->access)) {
    if (!path->empty()) *path = Absolute(config->base_dir, *path);
  }
  const auto put_default = [&](const char* name, std::string* path) {
    if (path->empty()) *path = access_dir + name;
  };
  put_default("tokens.json", &config->access.token_file);
  put_default("server.pem", &config->access.tls_certificate_file);
  put_default("server.key", &config->access.tls_key_file);
  if (config->allowed_roots.empty()) config->allowed_roots = {config->base_dir};
  for (std::string& root : config->allowed_roots) root = Absolute(config->base_dir, root);
  return absl::OkStatus();
}

}  // namespace imageddpo
