#pragma once

#include <string>

namespace imageddpo {

/// Processors that this process may use at a time, at least 1: those of its affinity (taskset, a
/// scheduler's or a container's cpuset), or fewer where a control group (version 1 or 2) limits its
/// processor time. A quota of 2.5 processors counts as 2: threads that wait for each other all wait
/// for the one that the quota stops.
/// @param root  before /proc and /sys, for tests.
int AvailableProcessors(const std::string& root = "");

}  // namespace imageddpo
