#pragma once

#include <cstdint>
#include <string>

/// What this process may use of its host.
namespace imageddpo {

/// Processors that this process may use at a time, at least 1: those of its affinity (taskset, a
/// scheduler's or a container's cpuset), or fewer where a control group (version 1 or 2) limits its
/// processor time. A quota of 2.5 processors counts as 2: threads that wait for each other all wait
/// for the one that the quota stops.
/// @param root  before /proc and /sys, for tests.
int AvailableProcessors(const std::string& root = "");

/// Bytes of memory that the processes of this host, or of the container that this one is in, may
/// use together: what the host has, or less where a control group (version 1 or 2) limits it.
/// @param root  before /proc and /sys, for tests.
/// @return 0 where it cannot be known.
int64_t HostMemoryBytes(const std::string& root = "");

/// Memory that this process has on its host; 0 where it cannot be known.
int64_t ResidentBytes();

}  // namespace imageddpo
