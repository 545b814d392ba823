#include "common/config/reward_service.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"
#include "common/base/text.h"
#include "common/config/choices.h"

namespace imageddpo {
namespace {

constexpr char kLocal[] = "local";
constexpr char kSha256Prefix[] = "sha256:";
constexpr size_t kSha256Digits = 64;
constexpr int kMostReplicas = 64;
constexpr int64_t kMostRetries = 100;
constexpr double kMaxTimeoutSeconds = 24 * 3600;
constexpr size_t kMaxShownBytes = 200;

/// HOST or HOST:PORT of an operator's list.
struct Pattern {
  std::string host;
  std::optional<int> port = {};  ///< Not set: any.
};

std::optional<Pattern> ParsePattern(const std::string& text) {
  const bool has_port = absl::StrContains(text, ':') && !absl::EndsWith(text, "]");
  const size_t colon = text.rfind(':');
  Pattern pattern{.host = Address::Of(has_port ? text.substr(0, colon) : text, 0).host};
  int port = 0;
  if (has_port) {
    if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 1 || port > 65535) {
      return std::nullopt;
    }
    pattern.port = port;
  }
  const std::string rest = absl::StartsWith(pattern.host, "*.") ? pattern.host.substr(2)
                           : pattern.host == "*"                ? "any"
                                                                : pattern.host;
  if (rest.empty() || rest.find_first_of("*/ \t") != std::string::npos) return std::nullopt;
  return pattern;
}

bool Matches(const Pattern& pattern, const Address& address) {
  if (address.is_unix() || (pattern.port && *pattern.port != address.port)) return false;
  if (pattern.host == "*") return true;
  if (absl::StartsWith(pattern.host, "*.")) {
    return absl::EndsWithIgnoreCase(address.host, pattern.host.substr(1));
  }
  return absl::EqualsIgnoreCase(address.host, pattern.host);
}

bool HasEntry(const std::vector<std::string>& allow, const std::string& entry) {
  return std::find(allow.begin(), allow.end(), entry) != allow.end();
}

/// By its path, with every symbolic link followed.
bool IsFileAllowed(const std::vector<std::string>& allow, const std::string& path) {
  return std::any_of(allow.begin(), allow.end(), [&](const std::string& text) {
    return absl::StartsWith(text, "/") &&
           ::fnmatch(text.c_str(), path.c_str(), FNM_PATHNAME | FNM_NOESCAPE) == 0;
  });
}

std::vector<std::string> EndpointFaults(const v1::RewardSpec& reward, const std::string& prefix) {
  std::vector<std::string> faults;
  if (reward.endpoints().empty() || reward.endpoints_size() > kMostReplicas) {
    faults.push_back(absl::StrCat("`", prefix, "endpoints` has ", reward.endpoints_size(),
                                  " addresses; it must have 1 to ", kMostReplicas,
                                  ", as `[127.0.0.1:50061]`"));
  }
  bool is_local = true;
  for (const std::string& endpoint : reward.endpoints()) {
    const absl::StatusOr<Address> address = Address::Parse(endpoint);
    if (!address.ok()) {
      faults.push_back(absl::StrCat("`", prefix, "endpoints`: `", Excerpt(endpoint, kMaxShownBytes),
                                    "` ", address.status().message(),
                                    "; it must be HOST:PORT, [IPV6]:PORT or unix:PATH"));
      continue;
    }
    if (address->is_unix() && !absl::StartsWith(address->unix_path, "/")) {
      faults.push_back(absl::StrCat("`", prefix, "endpoints`: `", Excerpt(endpoint, kMaxShownBytes),
                                    "` must have an absolute path"));
    }
    is_local = is_local && address->IsLocal();
  }
  if (!reward.token_file().empty() && reward.tls_ca_file().empty() && !is_local) {
    faults.push_back(absl::StrCat("`", prefix, "token_file` needs `", prefix,
                                  "tls_ca_file`: without TLS anyone on the network reads the "
                                  "token"));
  }
  return faults;
}

}  // namespace

RewardServiceConfig ResolveRewardService(const v1::RewardSpec& reward) {
  RewardServiceConfig config{
      .timeout_seconds = reward.timeout_seconds(),
      .max_outage_seconds = reward.max_outage_seconds(),
      .max_retries = FindChoice(kOnRewardErrors, reward.on_error()) == OnRewardError::kFail
                         ? 0
                         : static_cast<int>(reward.max_retries()),
      .tls_ca_file = PathOf(reward.tls_ca_file()),
      .token_file = PathOf(reward.token_file())};
  for (const std::string& endpoint : reward.endpoints()) {
    config.endpoints.push_back(*Address::Parse(endpoint));
  }
  return config;
}

void FillRewardService(v1::RewardSpec* reward) {
  const RewardServiceConfig defaults;
  if (!reward->has_timeout_seconds()) reward->set_timeout_seconds(defaults.timeout_seconds);
  if (!reward->has_max_outage_seconds())
    reward->set_max_outage_seconds(defaults.max_outage_seconds);
  if (!reward->has_max_retries()) reward->set_max_retries(defaults.max_retries);
  if (!reward->has_on_error()) {
    reward->set_on_error(WordOf(kOnRewardErrors, OnRewardError::kRetry));
  }
}

std::vector<std::string> RewardServiceFaults(const v1::RewardSpec& reward, bool is_service,
                                             const std::string& prefix) {
  std::vector<std::string> faults;
  if (!is_service) {
    for (const auto& [setting, is_given] :
         {std::pair("endpoints", !reward.endpoints().empty()),
          std::pair("timeout_seconds", reward.has_timeout_seconds()),
          std::pair("max_retries", reward.has_max_retries()),
          std::pair("max_outage_seconds", reward.has_max_outage_seconds()),
          std::pair("tls_ca_file", reward.has_tls_ca_file()),
          std::pair("token_file", reward.has_token_file())}) {
      if (is_given) {
        faults.push_back(absl::StrCat("`", prefix, setting,
                                      "` is a setting of `type: service` alone; leave it out"));
      }
    }
    return faults;
  }
  for (std::string& fault : EndpointFaults(reward, prefix)) faults.push_back(std::move(fault));
  const auto range = [&](const char* setting, double value, double min, double max) {
    if (std::isfinite(value) && value >= min && value <= max) return;
    faults.push_back(absl::StrCat("`", prefix, setting, "` is ", value, "; it must be from ", min,
                                  " to ", static_cast<int64_t>(max)));
  };
  range("timeout_seconds", reward.timeout_seconds(), 0.1, kMaxTimeoutSeconds);
  range("max_outage_seconds", reward.max_outage_seconds(), 0, kMaxOutageSeconds);
  range("max_retries", static_cast<double>(reward.max_retries()), 0, kMostRetries);
  return faults;
}

bool IsSha256(const std::string& text) {
  return text.size() == kSha256Digits && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

bool IsRewardsAllowEntry(const std::string& text) {
  if (absl::StartsWith(text, kSha256Prefix))
    return IsSha256(text.substr(sizeof(kSha256Prefix) - 1));
  return absl::StartsWith(text, "/") || text == kLocal || ParsePattern(text).has_value();
}

bool IsEndpointAllowed(const std::vector<std::string>& allow, const Address& address) {
  return std::any_of(allow.begin(), allow.end(), [&](const std::string& text) {
    if (text == kLocal) return address.IsLocal();
    if (absl::StartsWith(text, "/") || absl::StartsWith(text, kSha256Prefix)) return false;
    const std::optional<Pattern> pattern = ParsePattern(text);
    return pattern && Matches(*pattern, address);
  });
}

absl::Status CheckAllowedRewards(const std::vector<std::string>& allow, bool is_operator,
                                 const FileHash& sha256_of, v1::JobSpec* job) {
  std::vector<std::string> faults, wrong_hashes;
  for (int i = 0; i < job->rewards_size(); ++i) {
    v1::RewardSpec& reward = *job->mutable_rewards(i);
    for (const std::string& endpoint : reward.endpoints()) {
      const absl::StatusOr<Address> address = Address::Parse(endpoint);
      const bool is_own = is_operator && address.ok() && address->IsLocal();
      if (is_own || (address.ok() && IsEndpointAllowed(allow, *address))) continue;
      faults.push_back(
          absl::StrCat("`rewards[", i, "].endpoints`: ", Excerpt(endpoint, kMaxShownBytes),
                       " is not among the reward services that jobs may use (",
                       allow.empty() ? "none" : absl::StrJoin(allow, ", "),
                       "); let the service's owner add it to `rewards.allow` in cluster.yaml"));
    }
    if (reward.model().empty()) continue;
    const std::string path = PathOf(reward.model());
    const bool is_free = is_operator || IsFileAllowed(allow, path);
    const bool may_have_hash = std::any_of(allow.begin(), allow.end(), [](const auto& text) {
      return absl::StartsWith(text, kSha256Prefix);
    });
    std::string sha256;
    if (reward.has_model_sha256() || (!is_free && may_have_hash)) {
      absl::StatusOr<std::string> hash = sha256_of(path);
      if (!hash.ok()) {
        wrong_hashes.push_back(absl::StrCat("`rewards[", i, "].model`: ", hash.status().message()));
        continue;
      }
      sha256 = *std::move(hash);
    }
    if (reward.has_model_sha256() && reward.model_sha256() != sha256) {
      wrong_hashes.push_back(absl::StrCat("`rewards[", i, "].model_sha256` is ",
                                          reward.model_sha256(), ", and ", reward.model(), " has ",
                                          sha256));
    } else if (!is_free && HasEntry(allow, absl::StrCat(kSha256Prefix, sha256))) {
      reward.set_model_sha256(sha256);
    } else if (!is_free) {
      faults.push_back(absl::StrCat(
          "`rewards[", i, "].model`: ", reward.model(),
          " is code, which jobs of submitters may use only where `rewards.allow` in cluster.yaml "
          "has its path or its hash; let the service's owner add it"));
    }
  }
  if (!faults.empty()) {
    return InvalidSettings(faults, absl::StatusCode::kPermissionDenied, Reason::kRewardNotAllowed);
  }
  return InvalidSettings(wrong_hashes);
}

double LongestOutageSeconds(const v1::JobSpec& job) {
  double longest = 0;
  for (const v1::RewardSpec& reward : job.rewards()) {
    longest = std::max(longest, reward.max_outage_seconds());
  }
  return longest;
}

}  // namespace imageddpo
