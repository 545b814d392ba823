#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config/topology.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

inline Topology Split(int rollout, int trainer) {
  return {.rollout = rollout, .trainer = trainer, .colocated = false};
}
inline Topology Colocated(int ranks) {
  return {.rollout = ranks, .trainer = ranks, .colocated = true};
}

/// What must be the same, bit for bit: all that rank 0 would write, without times.
struct JobOutcome {
  std::vector<std::string> rows;
  std::map<int64_t, std::string> evaluations;  ///< By epochs trained.
  std::map<int64_t, std::string> best_loras;   ///< By epochs trained, with checkpoint.best.
  std::map<int64_t, v1::Checkpoint> checkpoints;
  std::map<int64_t, v1::EpochMetrics> ages;  ///< By epoch, where they say how old samples were.
  std::vector<std::string> warnings;         ///< Not compared.
  bool operator==(const JobOutcome& other) const {
    return rows == other.rows && evaluations == other.evaluations && Bytes() == other.Bytes();
  }
  std::vector<std::string> Bytes() const {
    std::vector<std::string> bytes;
    for (const auto& [epoch, checkpoint] : checkpoints) {
      bytes.push_back(checkpoint.SerializeAsString());
    }
    return bytes;
  }
};

/// Runs a judged job to its end, with a thread for each rank and messages between threads. Rank r
/// computes on `devices[r % size]`.
/// @param outcome  gets what it reports, also where it fails.
/// @return  the first rank's status that is not OK.
absl::Status TryOnThreads(const v1::JobSpec& job, const Topology& topology,
                          const v1::Checkpoint* resume_from, const std::vector<at::Device>& devices,
                          JobOutcome* outcome);

}  // namespace imageddpo
