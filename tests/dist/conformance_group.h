#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/conformance/conformance.h"

namespace imageddpo {

inline void PrintTo(const ConformanceCase& conformance_case, std::ostream* out) {
  *out << conformance_case.name;
}

/// Runs a case with the ranks of a group as threads of this process.
inline void RunOnThreads(const ConformanceCase& conformance_case,
                         std::vector<std::unique_ptr<Communicator>> group) {
  std::vector<std::vector<std::string>> wrong(group.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < group.size(); ++rank) {
    threads.emplace_back(
        [&, rank] { wrong[rank] = RunConformanceCase(conformance_case, std::move(group[rank])); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  for (std::size_t rank = 0; rank < group.size(); ++rank) {
    for (const std::string& what : wrong[rank]) {
      ADD_FAILURE() << "rank " << rank << ": " << what;
    }
  }
}

}  // namespace imageddpo
