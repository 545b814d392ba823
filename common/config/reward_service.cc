#include "common/config/reward_service.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "common/config/choices.h"

namespace imageddpo {
namespace {

constexpr char kLocal[] = "local";
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

absl::Status CheckEndpointPattern(const std::string& text) {
  if (text == kLocal || ParsePattern(text).has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "is none of `local`, HOST and HOST:PORT, where HOST may begin with `*.` or be `*`");
}

bool IsEndpointAllowed(const std::vector<std::string>& patterns, const Address& address) {
  if (patterns.empty()) return address.IsLocal();
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& text) {
    if (text == kLocal) return address.IsLocal();
    const std::optional<Pattern> pattern = ParsePattern(text);
    return pattern && Matches(*pattern, address);
  });
}

absl::Status CheckRewardEndpoints(const std::vector<std::string>& patterns,
                                  const v1::JobSpec& job) {
  std::vector<std::string> faults;
  for (int i = 0; i < job.rewards_size(); ++i) {
    for (const std::string& endpoint : job.rewards(i).endpoints()) {
      const absl::StatusOr<Address> address = Address::Parse(endpoint);
      if (address.ok() && IsEndpointAllowed(patterns, *address)) continue;
      faults.push_back(
          absl::StrCat("`rewards[", i, "].endpoints`: ", Excerpt(endpoint, kMaxShownBytes),
                       " is not among the reward services that jobs may use (",
                       patterns.empty() ? "local" : absl::StrJoin(patterns, ", "),
                       "); let the service's owner add it to `reward_endpoints` in cluster.yaml"));
    }
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrJoin(faults, "\n"));
}

double LongestOutageSeconds(const v1::JobSpec& job) {
  double longest = 0;
  for (const v1::RewardSpec& reward : job.rewards()) {
    longest = std::max(longest, reward.max_outage_seconds());
  }
  return longest;
}

}  // namespace imageddpo
