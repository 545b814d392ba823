#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/endpoint.h"
#include "imageddpo/v1/job.pb.h"

// What only rewards of `type: service` have, and who may name which service.
namespace imageddpo {

/// Settings of a reward service, judged.
struct RewardServiceConfig {
  std::vector<Address> endpoints = {};  ///< Replicas; at least one.
  double timeout_seconds = 60;          ///< For one answer.
  /// How long a job's ranks wait for a service that is away. After that the job is paused, and its
  /// ranks are free, until the service is back: sooner frees them earlier, later saves what is
  /// sampled of the epoch under way.
  double max_outage_seconds = 600;
  int max_retries = 3;           ///< Of a batch that could not be scored; 0 with `on_error: fail`.
  std::string tls_ca_file = "";  ///< Path, to be opened; empty: no TLS.
  std::string token_file = "";   ///< Path, to be opened; empty: no token.
};

/// The longest outage that can be asked for: a week.
inline constexpr double kMaxOutageSeconds = 7 * 24 * 3600;

/// @param reward  checked, with defaults.
RewardServiceConfig ResolveRewardService(const v1::RewardSpec& reward);

void FillRewardService(v1::RewardSpec* reward);  ///< Defaults, of `type: service`.

/// What is wrong, a sentence for each setting.
/// @param is_service  whether the reward's type is `service`; others have none of these settings.
/// @param prefix      "rewards[0]."
std::vector<std::string> RewardServiceFaults(const v1::RewardSpec& reward, bool is_service,
                                             const std::string& prefix);

/// OK if `text` is `local`, HOST or HOST:PORT; HOST may be `*` or begin with `*.`. Else
/// INVALID_ARGUMENT, as "is no …".
absl::Status CheckEndpointPattern(const std::string& text);

/// Whether the operator's list `patterns` (cluster.yaml `reward_endpoints`; empty: `local`) has the
/// address.
bool IsEndpointAllowed(const std::vector<std::string>& patterns, const Address& address);

/// PERMISSION_DENIED naming each of a job's reward endpoints that is not on the list.
absl::Status CheckRewardEndpoints(const std::vector<std::string>& patterns, const v1::JobSpec& job);

/// How long any rank of the job may wait for something outside of the service, at most.
double LongestOutageSeconds(const v1::JobSpec& job);

}  // namespace imageddpo
