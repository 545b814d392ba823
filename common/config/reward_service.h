#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/endpoint.h"
#include "imageddpo/v1/job.pb.h"

// What only rewards of `type: service` have, and who may name which reward.
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

/// Whether `text` is 64 lower-case hexadecimal digits.
bool IsSha256(const std::string& text);

/// Whether cluster.yaml `rewards.allow` may have this entry: `local`, HOST or HOST:PORT, where HOST
/// may be `*` or begin with `*.`; an absolute path with `*` and `?`; `sha256:` and the digits.
bool IsRewardsAllowEntry(const std::string& text);

/// Whether `rewards.allow` has the address of a reward service.
bool IsEndpointAllowed(const std::vector<std::string>& allow, const Address& address);

/// Reads a file for its SHA-256.
using FileHash = std::function<absl::StatusOr<std::string>(const std::string& path)>;
/// Whether a job may name its rewards' services and TorchScript files, which are code.
/// @param is_operator  The job is an admin's: besides what `allow` has, every file, and services of
///                     this host.
/// @param job  With resolved paths. A file that is allowed by its hash gets `model_sha256`, so that
///             no other one is opened.
/// @return PERMISSION_DENIED naming each that is not allowed; INVALID_ARGUMENT: a file has another
///         hash than `model_sha256`.
absl::Status CheckAllowedRewards(const std::vector<std::string>& allow, bool is_operator,
                                 const FileHash& sha256_of, v1::JobSpec* job);

/// How long any rank of the job may wait for something outside of the service, at most.
double LongestOutageSeconds(const v1::JobSpec& job);

}  // namespace imageddpo
