#pragma once

#include <grpcpp/support/status.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "imageddpo/v1/reward.pb.h"

// What the outcome of a call means. Pure functions.
namespace imageddpo {

enum class TroubleKind {
  kNone,
  kAway,    ///< Nobody answers, or the service is too busy: waited for.
  kSlow,    ///< No answer in time; away or a fault, as its health says.
  kFault,   ///< The batch could not be scored: asked again a few times.
  kRefused  ///< The batch can never be scored.
};

struct Trouble {
  TroubleKind kind = TroubleKind::kNone;
  std::string what;  ///< For people, one line of valid UTF-8: "connection refused".
};

/// Judges the call itself.
Trouble JudgeStatus(const grpc::Status& status);

/// Whether an answer has a value for any of its items; if not, it need not have the parts' names.
bool HasValue(const v1::ScoreResponse& answer);

/// Judges an answer that has arrived.
/// @param num_items   of the request. @param version  of the service, as described.
/// @param part_names  of earlier answers; empty before the first.
Trouble JudgeAnswer(const v1::ScoreResponse& answer, int num_items, const std::string& version,
                    const std::vector<std::string>& part_names);

/// Judges its items: kRefused if one of them can never be scored, kFault if one could not be.
/// Afterwards each item has a finite value or an error with a message.
TroubleKind JudgeItems(v1::ScoreResponse* answer);

/// Judges a service's description.
Trouble JudgeDescription(const v1::DescribeResponse& description);

}  // namespace imageddpo
