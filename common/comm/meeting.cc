#include "common/comm/meeting.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr int kTag = 0;
using Clock = std::chrono::steady_clock;

std::chrono::milliseconds Until(Clock::time_point deadline) {
  return std::max(std::chrono::milliseconds(0),
                  std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()));
}

/// Rank 0 receives from all other ranks, then answers all of them. @return its answer.
std::string Exchange(Communicator& gang, const std::string& agreement, Clock::time_point deadline) {
  if (gang.rank() != 0) {
    gang.SendBytes(agreement, 0, kTag);
    return gang.RecvBytes(0, kTag, Until(deadline));
  }
  std::string answer = agreement;
  for (int rank = 1; rank < gang.world_size(); ++rank) {
    const std::string theirs = gang.RecvBytes(rank, kTag, Until(deadline));
    if (theirs != agreement) {
      answer = absl::StrCat("the ranks of the gang disagree: \"", agreement, "\" on rank 0, \"",
                            theirs, "\" on rank ", rank);
    }
  }
  for (int rank = 1; rank < gang.world_size(); ++rank) {
    gang.SendBytes(answer, rank, kTag);
  }
  return answer;
}

}  // namespace

absl::Status MeetGang(Communicator& gang, const std::string& agreement,
                      std::chrono::milliseconds timeout) {
  try {
    const std::string mine = absl::StrCat(agreement, " over ", gang.transport());
    const std::string answer = Exchange(gang, mine, Clock::now() + timeout);
    return answer == mine ? absl::OkStatus() : absl::FailedPreconditionError(answer);
  } catch (const CommError& error) {
    return ToStatus(
        CommError(error.kind(), absl::StrCat("the gang was not formed: ", error.what())));
  }
}

}  // namespace imageddpo
