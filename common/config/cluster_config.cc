#include "common/config/cluster_config.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/endpoint.h"
#include "common/base/status.h"
#include "common/base/suggest.h"
#include "common/base/text.h"
#include "common/config/yaml_source.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

/// Stores a value and returns true, or returns false where it is of the wrong type.
struct Field {
  std::string expected;
  std::function<bool(const YAML::Node&)> read;
};
using Section = std::map<std::string, Field>;

Field Text(std::string* target) {
  return {"text", [=](const YAML::Node& node) {
            const auto value = YamlText(node);
            if (value) *target = *value;
            return value.has_value();
          }};
}

Field Whole(int* target) {
  return {"a whole number", [=](const YAML::Node& node) {
            const auto value = YamlInt64(node);
            if (!value || *value != static_cast<int>(*value)) return false;
            *target = static_cast<int>(*value);
            return true;
          }};
}

Field Seconds(double* target) {
  return {"a number of seconds", [=](const YAML::Node& node) {
            const auto value = YamlDouble(node);
            if (value) *target = *value;
            return value.has_value();
          }};
}

Field TextList(std::vector<std::string>* target) {
  return {"a list of text", [=](const YAML::Node& node) {
            if (!node.IsSequence()) return false;
            target->clear();
            for (const YAML::Node& item : node) {
              const auto value = YamlText(item);
              if (!value) return false;
              target->push_back(*value);
            }
            return true;
          }};
}

// The file's whole schema; "" is the top.
std::map<std::string, Section> Schema(ClusterConfig* config) {
  return {
      {"",
       {{"data_dir", Text(&config->data_dir)},
        {"base_dir", Text(&config->base_dir)},
        {"allowed_roots", TextList(&config->allowed_roots)},
        {"log_level", Text(&config->log_level)}}},
      {"grpc", {{"address", Text(&config->grpc.address)}, {"port", Whole(&config->grpc.port)}}},
      {"http", {{"address", Text(&config->http.address)}, {"port", Whole(&config->http.port)}}},
      {"pool",
       {{"min_ranks", Whole(&config->pool.min_ranks)},
        {"heartbeat_timeout_seconds", Seconds(&config->pool.heartbeat_timeout_seconds)},
        {"lease_seconds", Seconds(&config->pool.lease_seconds)},
        {"stop_timeout_seconds", Seconds(&config->pool.stop_timeout_seconds)},
        {"max_restarts", Whole(&config->pool.max_restarts)}}},
  };
}

void ReadSection(const YAML::Node& node, const std::string& name,
                 const std::map<std::string, Section>& schema, YamlFaults* faults) {
  const Section& section = schema.at(name);
  const std::string prefix = name.empty() ? "" : absl::StrCat(name, ".");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const std::string where = faults->Where(prefix + key, entry.first);
    const YAML::Node& value = entry.second;
    if (!seen.insert(key).second) {
      faults->Add(absl::StrCat(where, " is given twice"));
    } else if (name.empty() && !key.empty() && schema.contains(key)) {
      if (value.IsMap()) {
        ReadSection(value, key, schema, faults);
      } else if (!IsYamlNull(value)) {
        faults->Add(
            absl::StrCat(where, " must be a section of settings, not ", DescribeYaml(value)));
      }
    } else if (const auto field = section.find(key); field != section.end()) {
      if (!field->second.read(value)) {
        faults->Add(absl::StrCat(where, " must be ", field->second.expected, ", not ",
                                 DescribeYaml(value)));
      }
    } else {
      std::vector<std::string> known;
      for (const auto& [known_key, unused] : section) known.push_back(known_key);
      if (name.empty()) {
        for (const auto& [section_name, unused] : schema) {
          if (!section_name.empty()) known.push_back(section_name);
        }
      }
      const auto closest = ClosestMatch(key, known);
      faults->Add(absl::StrCat("unknown setting ", where, "; ",
                               closest ? absl::StrCat("did you mean `", *closest, "`?")
                                       : absl::StrCat("known here: ", absl::StrJoin(known, ", "))));
    }
  }
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
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  IMAGEDDPO_ASSIGN_OR_RETURN(const YAML::Node root, LoadYamlMap(text, file));
  ClusterConfig config;
  YamlFaults faults(file);
  if (root.IsMap()) ReadSection(root, "", Schema(&config), &faults);
  IMAGEDDPO_RETURN_IF_ERROR(faults.ToStatus());
  return config;
}

absl::Status ResolveClusterConfig(ClusterConfig* config) {
  std::vector<std::string> faults;
  const auto check = [&](bool ok, const std::string& setting, const std::string& value,
                         const std::string& must) {
    if (!ok) faults.push_back(absl::StrCat("`", setting, "` is ", value, "; it must be ", must));
  };
  const auto check_address = [&](const std::string& name, const std::string& host, int port) {
    check(
        Address::Of(host, port).IsLocal(), name + ".address", absl::StrCat("`", host, "`"),
        "127.0.0.1, ::1 or localhost: this version has no TLS and no tokens, so it does not listen "
        "to a network; use an SSH tunnel");
    check(port >= 0 && port <= 65535, name + ".port", absl::StrCat(port),
          "from 0 (a free one) to 65535");
  };
  const Address grpc = Address::Of(config->grpc.address, config->grpc.port);
  check_address("grpc", config->grpc.address, config->grpc.port);
  check_address("http", config->http.address, config->http.port);
  check(!Address::Of(config->http.address, 0).is_unix(), "http.address",
        absl::StrCat("`", config->http.address, "`"), "127.0.0.1, ::1 or localhost");
  check(grpc.is_unix() || grpc.port == 0 || grpc.port != config->http.port, "http.port",
        absl::StrCat(config->http.port), "another than `grpc.port`");
  check(config->pool.min_ranks >= 0, "pool.min_ranks", absl::StrCat(config->pool.min_ranks),
        "0 (all) or above");
  for (const auto& [setting, seconds] :
       {std::pair("pool.heartbeat_timeout_seconds", config->pool.heartbeat_timeout_seconds),
        std::pair("pool.lease_seconds", config->pool.lease_seconds),
        std::pair("pool.stop_timeout_seconds", config->pool.stop_timeout_seconds)}) {
    check(std::isfinite(seconds) && seconds >= 1 && seconds <= 3600, setting, absl::StrCat(seconds),
          "from 1 to 3600");
  }
  check(config->pool.max_restarts >= 0, "pool.max_restarts",
        absl::StrCat(config->pool.max_restarts), "0 or above");
  if (config->log_level == "warn") config->log_level = "warning";
  const std::set<std::string> levels = {"trace", "debug", "info", "warning", "error", "off"};
  check(levels.contains(config->log_level), "log_level", absl::StrCat("`", config->log_level, "`"),
        "trace, debug, info, warning, error or off");
  check(!config->data_dir.empty(), "data_dir", "empty", "a folder");
  if (!faults.empty()) return absl::InvalidArgumentError(absl::StrJoin(faults, "\n"));

  std::error_code error;
  const fs::path working_dir = fs::current_path(error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("the working directory cannot be read: ", error.message()));
  }
  config->base_dir = Absolute(working_dir, config->base_dir);
  config->data_dir = Absolute(config->base_dir, config->data_dir);
  if (grpc.is_unix()) {
    const Address absolute{.unix_path = Absolute(config->base_dir, grpc.unix_path)};
    config->grpc.address = absolute.ToString();
    if (const absl::Status path = CheckUnixPath(absolute.unix_path); !path.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("`grpc.address`, which is `", config->grpc.address, "`, ", path.message()));
    }
  }
  if (config->allowed_roots.empty()) config->allowed_roots = {config->base_dir};
  for (std::string& root : config->allowed_roots) root = Absolute(config->base_dir, root);
  return absl::OkStatus();
}

}  // namespace imageddpo
