#pragma once

#include <memory>
#include <vector>

#include "common/comm/communicator.h"

namespace imageddpo {

/// The ranks of a group as threads of one process: for tests, and for the gang of one. Each element
/// belongs to one thread.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int world_size,
                                                                   at::Device device = at::kCPU);

/// A group of one rank; what it sends to itself arrives.
std::unique_ptr<Communicator> MakeSoloCommunicator(at::Device device = at::kCPU);

}  // namespace imageddpo
