#include "deploy/imageddpo/text/cluster_text.h"

#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/text.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/job_files_text.h"

namespace imageddpo {
namespace {

std::string StateOf(const v1::Rank& rank) {
  std::string state =
      absl::AsciiStrToLower(absl::StripPrefix(v1::RankState_Name(rank.state()), "RANK_"));
  if (!rank.drained()) return state;
  return rank.state() == v1::RANK_BUSY ? "busy, draining" : absl::StrCat(state, ", drained");
}

std::string MemoryOf(const v1::Host& host, const v1::Rank& rank) {
  const int64_t bytes =
      rank.device_memory_bytes() > 0 ? rank.device_memory_bytes() : host.memory_bytes();
  return bytes > 0 ? FormatBytes(bytes) : "-";
}

}  // namespace

std::string ClusterTable(const v1::Cluster& cluster) {
  std::map<std::string, std::string> topologies;
  for (const v1::Gang& gang : cluster.gangs()) topologies[gang.job_id()] = gang.topology();
  std::vector<std::vector<std::string>> rows;
  int free = 0, usable = 0;
  for (const v1::Host& host : cluster.hosts()) {
    for (const v1::Rank& rank : host.ranks()) {
      usable += rank.state() != v1::RANK_DEAD && !rank.drained() ? 1 : 0;
      free += rank.state() == v1::RANK_IDLE && !rank.drained() ? 1 : 0;
      const std::string job = rank.job_id().empty() ? "-" : Printable(rank.job_id());
      const auto topology = topologies.find(rank.job_id());
      rows.push_back({absl::StrCat(rank.rank()), host.name().empty() ? "-" : Printable(host.name()),
                      rank.device().empty() ? "-" : Printable(rank.device()),
                      absl::StrCat(rank.cores()), MemoryOf(host, rank), StateOf(rank),
                      rank.heartbeat_age_seconds() < 0
                          ? "-"
                          : absl::StrCat(FormatDuration(rank.heartbeat_age_seconds()), " ago"),
                      job, topology == topologies.end() ? "-" : Printable(topology->second)});
    }
  }
  return absl::StrCat(
      FormatTable(
          {"RANK#", "HOST", "DEVICE", "CORES#", "MEMORY#", "STATE", "HEARD", "JOB", "TOPOLOGY"},
          rows),
      free, " of ", usable, " ranks free; the service ", Printable(cluster.version()),
      cluster.healthy() ? " is well" : absl::StrCat(" is not well: ", Printable(cluster.health())),
      "\n");
}

}  // namespace imageddpo
