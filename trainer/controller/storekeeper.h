#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "common/base/blocking_queue.h"
#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/files/retention.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Removes what `retention` in cluster.yaml does not keep of jobs that have ended, and exports what
/// only a look at the disk tells: the free space of data_dir and the end of the API's certificate.
/// Every now and then, on a thread of its own.
class Storekeeper {
 public:
  struct Dependencies {
    JobStore& store;
    const Clock& clock;
    ServiceMetrics& metrics;
    std::shared_ptr<spdlog::logger> logger;
    Retire retire;
    std::string certificate_file = "";  ///< Of the API; empty: it has none.
  };

  /// Dependencies must outlive the object.
  Storekeeper(const RetentionRules& rules, Dependencies dependencies);
  ~Storekeeper();  ///< Waits for a round under way.
  Storekeeper(const Storekeeper&) = delete;
  Storekeeper& operator=(const Storekeeper&) = delete;

 private:
  void Run();
  void ExportDisk();
  void RemoveOld();

  const RetentionRules rules_;
  const Dependencies dependencies_;
  BlockingQueue<bool> stop_;  // Closed at the end, which ends the pauses.
  std::thread thread_;
};

}  // namespace imageddpo
