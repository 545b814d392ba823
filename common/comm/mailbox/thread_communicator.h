#pragma once

#include <memory>
#include <vector>

#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

/// The mailboxes of a group whose ranks are threads of this process.
std::vector<std::shared_ptr<Mailbox>> MakeThreadMailboxes(int world_size);

/// The communicators of a group whose ranks are threads of this process: for tests, and for a gang
/// of one. Each element belongs to one thread.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int world_size,
                                                                   at::Device device = at::kCPU);

/// A group of one rank on the CPU, which can send to itself.
std::unique_ptr<Communicator> MakeSoloCommunicator();

}  // namespace imageddpo
