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
  kUnfit,   ///< This batch can never be scored; others may.
  kRefused  ///< No batch can ever be scored.
};

/// Whether another try is of no use.
inline bool IsFinal(TroubleKind kind) {
  return kind == TroubleKind::kUnfit || kind == TroubleKind::kRefused;
}

/// Whether a trouble says something of the batch alone and not of the service.
inline bool IsOfBatch(TroubleKind kind) {
  return kind == TroubleKind::kFault || kind == TroubleKind::kUnfit;
}

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

/// Judges its items: kFault if one of them could not be scored, kUnfit if one never can be.
/// Afterwards each item has a finite value or an error with a message.
/// @param one_ends_all  where both hold: kUnfit if true, since the others need no second try then.
TroubleKind JudgeItems(bool one_ends_all, v1::ScoreResponse* answer);

/// Judges a service's description.
Trouble JudgeDescription(const v1::DescribeResponse& description);

}  // namespace imageddpo
