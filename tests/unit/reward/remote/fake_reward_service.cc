#include "tests/unit/reward/remote/fake_reward_service.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "imageddpo/v1/reward.grpc.pb.h"

namespace imageddpo {

class FakeRewardService::Server final : public v1::RewardService::Service {
 public:
  explicit Server(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(behaviour_.port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetMaxReceiveMessageSize(behaviour_.max_request_bytes);
    builder.SetMaxSendMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Server() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  grpc::Status Describe(grpc::ServerContext* context, const v1::DescribeRequest*,
                        v1::DescribeResponse* response) override {
    if (!HasToken(*context)) return {grpc::StatusCode::UNAUTHENTICATED, "wrong token"};
    *response = behaviour_.description;
    return grpc::Status::OK;
  }

  grpc::Status Score(grpc::ServerContext*, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override {
    ++num_calls_;
    response->set_version(behaviour_.description.version());
    const absl::Status status = behaviour_.score(*request, response);
    return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
  }

  int port() const { return port_; }
  int num_calls() const { return num_calls_; }

 private:
  bool HasToken(const grpc::ServerContext& context) const {
    if (behaviour_.token.empty()) return true;
    const auto found = context.client_metadata().find("authorization");
    return found != context.client_metadata().end() &&
           found->second == "Bearer " + behaviour_.token;
  }

  Behaviour behaviour_;
  std::atomic<int> num_calls_{0};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

v1::DescribeResponse FakeRewardService::Describes() {
  v1::DescribeResponse description;
  description.set_api_version(1);
  return description;
}

absl::Status FakeRewardService::FirstByte(const v1::ScoreRequest& request,
                                          v1::ScoreResponse* response) {
  response->add_part_names("twice");
  const size_t image_bytes = request.generated().size() / static_cast<size_t>(request.items_size());
  for (int i = 0; i < request.items_size(); ++i) {
    const auto byte =
        static_cast<unsigned char>(request.generated().at(static_cast<size_t>(i) * image_bytes));
    v1::ItemScore& item = *response->add_items();
    item.set_value(byte);
    item.add_parts(2.0 * byte);
  }
  return absl::OkStatus();
}

FakeRewardService::FakeRewardService(Behaviour behaviour)
    : server_(std::make_unique<Server>(std::move(behaviour))) {}

FakeRewardService::~FakeRewardService() = default;

int FakeRewardService::port() const { return server_->port(); }

int FakeRewardService::num_calls() const { return server_->num_calls(); }

}  // namespace imageddpo
