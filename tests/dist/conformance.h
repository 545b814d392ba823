#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "common/comm/communicator.h"

namespace imageddpo {

/// What every transport has to do: each case runs on all ranks of a group at once, and reports what
/// is wrong through GoogleTest's EXPECT macros.
struct ConformanceCase {
  std::string name;
  void (*run)(Communicator& group);
};

std::vector<ConformanceCase> ConformanceCases();

/// For every wait of a case: far more than a slow machine needs.
constexpr std::chrono::milliseconds kConformanceTimeout{30'000};

}  // namespace imageddpo
