#include "rollout/reward/remote/replicas.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <utility>

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kShortestAway{5};
constexpr std::chrono::seconds kLongestAway{300};

std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, const std::string& tls_ca_pem) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetMaxReceiveMessageSize(kMaxRewardAnswerBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A service that was restarted is found within a second.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // In spite of its name: how long an attempt may take, which on a busy host is a while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  if (tls_ca_pem.empty()) {
    return grpc::CreateCustomChannel(address.ToString(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = tls_ca_pem;
  return grpc::CreateCustomChannel(address.ToString(), grpc::SslCredentials(tls), arguments);
}

}  // namespace

Replicas::Replicas(const RemoteRewardOptions& options) : token_(options.token) {
  for (const Address& endpoint : options.endpoints) {
    replicas_.push_back({endpoint.ToString(), std::make_unique<grpc::GenericStub>(
                                                  MakeChannel(endpoint, options.tls_ca_pem))});
  }
}

Replicas::~Replicas() {
  for (std::unique_ptr<CallState>& call : abandoned_) {
    if (!call->ended.HasBeenNotified()) static_cast<void>(call.release());
  }
}

void Replicas::Abandon(std::unique_ptr<CallState> call) {
  abandoned_.erase(
      std::remove_if(abandoned_.begin(), abandoned_.end(),
                     [](const auto& earlier) { return earlier->ended.HasBeenNotified(); }),
      abandoned_.end());
  call->context.TryCancel();
  abandoned_.push_back(std::move(call));
}

void Replicas::SetAway(size_t i, bool away) {
  Replica& replica = replicas_[i];
  replica.away_for = away ? std::clamp(2 * replica.away_for, kShortestAway, kLongestAway)
                          : std::chrono::seconds(0);
  replica.away_until = std::chrono::steady_clock::now() + replica.away_for;
}

size_t Replicas::Next() {
  for (size_t i = 0; i < size(); ++i) {
    const size_t candidate = (next_ + i) % size();
    if (std::chrono::steady_clock::now() < replicas_[candidate].away_until) continue;
    next_ = candidate + 1;
    return candidate;
  }
  return next_++ % size();
}

}  // namespace imageddpo
