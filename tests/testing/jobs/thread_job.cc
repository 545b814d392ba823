#include "tests/testing/jobs/thread_job.h"

#include <memory>
#include <thread>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "common/base/logging.h"
#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/worker/run_catching.h"
#include "deploy/imageddpod/job_function.h"

namespace imageddpo {

absl::Status TryOnThreads(const v1::JobSpec& job, const Topology& topology,
                          const v1::Checkpoint* resume_from, const std::vector<at::Device>& devices,
                          JobOutcome* outcome) {
  std::vector<int> world_ranks;
  for (int rank = 0; rank < topology.ranks(); ++rank) world_ranks.push_back(rank);
  v1::StartJob start;
  start.set_job_id("job-1");
  *start.mutable_spec() = job;
  *start.mutable_gang() = MakeGangLayout(topology, world_ranks, "tag");
  if (resume_from != nullptr) *start.mutable_resume_from() = *resume_from;

  const auto device_of = [&](int rank) {
    return devices[static_cast<size_t>(rank) % devices.size()];
  };
  std::vector<std::unique_ptr<Communicator>> gang;
  for (std::shared_ptr<Mailbox>& mailbox : MakeThreadMailboxes(topology.ranks())) {
    const int rank = mailbox->rank();
    gang.push_back(std::make_unique<MailboxCommunicator>(std::move(mailbox), device_of(rank)));
  }
  const auto logger = *MakeLogger({.level = "error"});
  const SystemClock clock;
  const StopToken stop;
  absl::Mutex mutex;
  absl::Status first_failure;
  const auto report = [&](const v1::WorkerMessage& message) {
    absl::MutexLock lock(&mutex);
    if (message.has_epoch()) {
      const v1::EpochReport& epoch = message.epoch();
      outcome->rows.insert(outcome->rows.end(), epoch.metrics_rows().begin(),
                           epoch.metrics_rows().end());
      if (epoch.metrics().has_sample_age())
        outcome->ages[epoch.metrics().epoch()] = epoch.metrics();
    }
    if (message.has_eval()) {
      outcome->evaluations[message.eval().epoch()] = message.eval().rows();
      outcome->best_loras[message.eval().epoch()] = message.eval().best_lora();
    }
    if (message.has_checkpoint()) {
      outcome->checkpoints[message.checkpoint().epoch()] = message.checkpoint();
    }
    if (message.has_warning()) outcome->warnings.push_back(message.warning().message());
  };
  std::vector<std::thread> threads;
  for (const int rank : world_ranks) {
    threads.emplace_back([&, rank] {
      JobContext context{.start = start,
                         .gang_rank = rank,
                         .gang = *gang[rank],
                         .device = device_of(rank),
                         .clock = clock,
                         .logger = logger,
                         .stop = stop,
                         .report = report};
      const absl::Status status = RunCatching([&] { return RunJob(context); });
      if (status.ok()) return;
      {
        absl::MutexLock lock(&mutex);
        if (first_failure.ok()) first_failure = status;
      }
      gang[rank]->Abort("its job failed");
    });
  }
  for (auto& thread : threads) thread.join();
  return first_failure;
}

}  // namespace imageddpo
