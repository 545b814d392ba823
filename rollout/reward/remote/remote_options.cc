#include "rollout/reward/remote/remote_options.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(std::llround(seconds * 1000));
}

absl::StatusOr<std::string> ReadSetting(const std::string& setting, const std::string& path) {
  if (path.empty()) return std::string();
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return Annotate(text.status(), absl::StrCat("rewards.", setting));
  return text;
}

}  // namespace

absl::StatusOr<RemoteRewardOptions> MakeRemoteOptions(const RewardConfig& config) {
  const RewardServiceConfig& service = config.service;
  RemoteRewardOptions options{.name = config.name,
                              .endpoints = service.endpoints,
                              .timeout = Milliseconds(service.timeout_seconds),
                              .max_outage = Milliseconds(service.max_outage_seconds),
                              .max_retries = service.max_retries,
                              .faults_are_items = config.on_error == OnRewardError::kDrop};
  IMAGEDDPO_ASSIGN_OR_RETURN(options.tls_ca_pem, ReadSetting("tls_ca_file", service.tls_ca_file));
  IMAGEDDPO_ASSIGN_OR_RETURN(options.token, ReadSetting("token_file", service.token_file));
  options.token = std::string(absl::StripAsciiWhitespace(options.token));
  for (const unsigned char c : options.token) {
    if (absl::ascii_isgraph(c)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("rewards.token_file: ", service.token_file,
                     " holds more than one token of visible ASCII characters"));
  }
  return options;
}

bool AreRewardServicesThere(const ResolvedJob& job, const Clock& clock,
                            const std::function<bool()>& is_stopped) {
  const WaitWatch watch = [&](const std::string&) {
    return is_stopped() ? absl::CancelledError("the service ends") : absl::OkStatus();
  };
  for (const RewardConfig& config : job.rewards()) {
    if (config.type != RewardType::kService) continue;
    absl::StatusOr<RemoteRewardOptions> options = MakeRemoteOptions(config);
    if (!options.ok()) continue;
    options->max_outage = std::chrono::milliseconds(0);
    const absl::Status status =
        RemoteReward::Make(*std::move(options), clock)->Connect(watch).status();
    if (is_stopped() || PausesJobFor(status).has_value()) return false;
  }
  return true;
}

}  // namespace imageddpo
