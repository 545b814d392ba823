#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "common/comm/communicator.h"

namespace imageddpo {

/// Waits until every rank of the group has come here, so that what is sent afterwards has a
/// receiver. The first thing that a new group does. Abort() from another thread ends the wait.
/// @param agreement  must be the same on all ranks, for example the list of members; so must the
///                   transport.
/// Errors: UNAVAILABLE (a member has died), ABORTED (a member gave up), DEADLINE_EXCEEDED (one did
/// not come within `timeout`), FAILED_PRECONDITION (the agreements differ). After an error the
/// group has to be aborted.
absl::Status MeetGang(Communicator& gang, const std::string& agreement,
                      std::chrono::milliseconds timeout);

}  // namespace imageddpo
