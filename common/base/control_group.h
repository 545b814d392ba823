#pragma once

#include <string>
#include <vector>

namespace imageddpo {

/// The folders, below /sys/fs/cgroup, of the control group that this process is in and of all
/// groups around it, innermost first: a limit in any of their files holds for this process.
/// Versions 1 and 2 of control groups; folders that do not exist may be among them.
/// @param root        before /proc and /sys, for tests.
/// @param controller  "cpu" or "memory"; version 1 has a tree of folders for each.
std::vector<std::string> ControlGroupFolders(const std::string& root,
                                             const std::string& controller);

}  // namespace imageddpo
