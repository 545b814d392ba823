#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "imageddpo/v1/reward.pb.h"

namespace imageddpo {

/// A reward service in this process, with behaviour that a test sets before it starts. By default
/// an item's value is the first byte of its image, and its only part, "twice", twice that.
class FakeRewardService {
 public:
  using Score = std::function<absl::Status(const v1::ScoreRequest&, v1::ScoreResponse*)>;

  struct Behaviour {
    v1::DescribeResponse description;
    Score score = FirstByte;
    std::string token = "";      ///< Wanted; empty: none.
    int max_request_bytes = -1;  ///< As a gRPC server has it; -1: no limit.
    int port = 0;                ///< 0: a free one.
  };

  static v1::DescribeResponse Describes();  ///< api_version 1, and nothing else.
  static absl::Status FirstByte(const v1::ScoreRequest& request, v1::ScoreResponse* response);

  FakeRewardService() : FakeRewardService(Behaviour{.description = Describes()}) {}
  explicit FakeRewardService(Behaviour behaviour);
  ~FakeRewardService();  ///< Cancels the calls under way and waits for their handlers.

  int port() const;
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }
  int num_calls() const;  ///< Of Score, so far.

 private:
  class Server;
  std::unique_ptr<Server> server_;
};

}  // namespace imageddpo
