#include "trainer/controller/pool/silence_watch.h"

#include <algorithm>
#include <utility>

namespace imageddpo {

SilenceWatch::SilenceWatch(double heartbeat_timeout_seconds, ServiceMetrics& metrics,
                           std::shared_ptr<spdlog::logger> logger)
    : timeout_s_(heartbeat_timeout_seconds), metrics_(metrics), logger_(std::move(logger)) {}

void SilenceWatch::Look(const std::map<int, double>& ages_s) {
  std::erase_if(silent_, [&](const auto& entry) { return !ages_s.contains(entry.first); });
  for (const auto& [rank, age_s] : ages_s) {
    const auto silent = silent_.find(rank);
    if (age_s >= timeout_s_ / 2) {
      if (silent == silent_.end()) {
        metrics_.WorkerSlow(rank);
        logger_->warn("rank {} has been silent for {:.1f} s; after {:.1f} s it counts as dead",
                      rank, age_s, timeout_s_);
        silent_[rank] = age_s;
      } else {
        silent->second = std::max(silent->second, age_s);
      }
    } else if (silent != silent_.end()) {
      logger_->info("rank {} is heard again, after {:.1f} s", rank, silent->second);
      silent_.erase(silent);
    }
  }
}

}  // namespace imageddpo
