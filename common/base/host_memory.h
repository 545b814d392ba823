#pragma once

#include <cstdint>
#include <string>

namespace imageddpo {

/// Bytes of memory that the processes of this host, or of the container that this one is in, may
/// use together: what the host has, or less where a control group (version 1 or 2) limits it.
/// @param root  before /proc and /sys, for tests.
/// @return 0 where it cannot be known.
int64_t HostMemoryBytes(const std::string& root = "");

/// Memory that this process has on its host; 0 where it cannot be known.
int64_t ResidentBytes();

}  // namespace imageddpo
