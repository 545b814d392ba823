#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/comm/communicator.h"

namespace imageddpo {

/// What one rank found wrong while a case ran.
class Findings {
 public:
  /// Records `what` as a finding unless `holds`. @return holds
  bool Expect(bool holds, const std::string& what) {
    if (!holds) {
      wrong_.push_back(what);
    }
    return holds;
  }
  const std::vector<std::string>& wrong() const { return wrong_; }

 private:
  std::vector<std::string> wrong_;
};

/// What every transport has to do, whatever carries the tensors: the tests run it over threads, MPI
/// and NCCL's stand-in, nccl_check over NCCL itself.
struct ConformanceCase {
  std::string name;
  /// Runs on all ranks of a group at once; each owns its communicator. May throw what a
  /// communicator throws: that is a finding too.
  void (*run)(std::unique_ptr<Communicator> group, Findings& findings);
};

std::vector<ConformanceCase> ConformanceCases();

/// Runs a case on this rank. @return what is wrong; nothing if all is well.
std::vector<std::string> RunConformanceCase(const ConformanceCase& conformance_case,
                                            std::unique_ptr<Communicator> group);

/// For every wait of a case: far more than a slow machine needs.
constexpr std::chrono::milliseconds kConformanceTimeout{30'000};

}  // namespace imageddpo
