#pragma once

#include <map>
#include <string>

namespace imageddpo {

/// What each rank of a launch of fault_ranks (see fault_ranks.cc) wrote down: by rank, then key.
using Reports = std::map<int, std::map<std::string, std::string>>;

/// Starts `ranks` real processes under mpirun and waits until the launch has ended. Reports
/// problems of the launch itself through EXPECT.
Reports RunFaultRanks(const std::string& scenario, int ranks);

/// A number of a report; -1 and a failed EXPECT when there is none.
double Number(const std::string& text);

}  // namespace imageddpo
