#include "trainer/controller/pool/cluster_view.h"

namespace imageddpo {

v1::ClusterView ViewOf(const Scheduler& scheduler, const std::map<int, double>& ages_s) {
  v1::ClusterView view;
  for (const auto& [world_rank, worker] : scheduler.workers()) {
    v1::RankView& rank = *view.add_ranks();
    rank.set_world_rank(world_rank);
    rank.set_hostname(worker.hostname);
    rank.set_pid(worker.pid);
    rank.set_device(worker.device);
    rank.set_cores(worker.cores);
    rank.set_host_memory_bytes(worker.host_memory_bytes);
    rank.set_device_memory_bytes(worker.device_memory_bytes);
    rank.set_job_id(worker.job_id);
    rank.set_state(worker.dead             ? v1::RankView::DEAD
                   : !worker.reported()    ? v1::RankView::STARTING
                   : worker.job_id.empty() ? v1::RankView::IDLE
                                           : v1::RankView::BUSY);
    const auto age_s = ages_s.find(world_rank);
    rank.set_silent_seconds(age_s == ages_s.end() ? -1 : age_s->second);
  }
  return view;
}

}  // namespace imageddpo
