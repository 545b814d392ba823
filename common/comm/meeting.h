#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "common/comm/communicator.h"

namespace imageddpo {

/// Blocks until every rank of the group has called it. The first call on a new group: it makes sure
/// that everything sent afterwards has a receiver. Abort() from another thread ends it.
/// @param agreement  must be the same on all ranks, for example the list of members. The transport
///                   must be the same, too.
/// @return UNAVAILABLE (a member has died), ABORTED (a member gave up), DEADLINE_EXCEEDED (a member
///         did not come within `timeout`), FAILED_PRECONDITION (the agreements differ). After an
///         error the group must be aborted.
absl::Status MeetGang(Communicator& gang, const std::string& agreement,
                      std::chrono::milliseconds timeout);

}  // namespace imageddpo
