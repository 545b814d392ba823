#include "common/worker/worker.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/base/host.h"
#include "common/base/logging.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/comm/meeting.h"
#include "common/worker/job_log_sink.h"
#include "common/worker/range_marks.h"
#include "common/worker/run_catching.h"
#include "common/worker/stack_dump.h"
#include "common/worker/stage_deadline.h"
#include "common/worker/stage_mark.h"

namespace imageddpo {
namespace {

// How often the loop looks at its timers when no message comes.
constexpr std::chrono::milliseconds kLook{200};
// In which the last message leaves this process.
constexpr std::chrono::milliseconds kFarewell{1'000};
// A longer gap between two looks means that this process was stopped, not the controller.
constexpr double kLongestLookSeconds = 2;

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

double Seconds(std::chrono::milliseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

v1::RankStats StatsOf(at::Device device, const SentBytes& sent, const GpuSensors* sensors) {
  v1::RankStats stats;
  if (sensors != nullptr) {
    const GpuSensors::Reading reading = sensors->Read();
    if (reading.power_watts) stats.set_gpu_power_watts(*reading.power_watts);
    if (reading.busy_ratio) stats.set_gpu_busy_ratio(*reading.busy_ratio);
    if (reading.used_bytes) stats.set_gpu_used_bytes(*reading.used_bytes);
  }
  stats.set_resident_bytes(ResidentBytes());
  stats.set_sent_message_bytes(sent.messages);
  stats.set_sent_nccl_bytes(sent.nccl);
  if (device.is_cpu()) return stats;
  auto* const allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (allocator == nullptr || !allocator->initialized()) return stats;
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto memory = allocator->getDeviceStats(device.index());
  stats.set_device_allocated_bytes(memory.allocated_bytes[kAll].current);
  stats.set_device_reserved_bytes(memory.reserved_bytes[kAll].current);
  return stats;
}

}  // namespace

/// One job on its thread. The thread starts with the object and is joined by its destructor.
class Worker::Job {
 public:
  Job(const Parts& parts, const v1::StartJob& start, std::chrono::milliseconds gang_timeout,
      std::shared_ptr<SentBytes> sent)
      : parts_(parts),
        start_(start),
        sent_(std::move(sent)),
        gang_timeout_(gang_timeout),
        deadline_(start.spec().max_stage_seconds()),
        log_sink_(std::make_shared<JobLogSink>(
            start.job_id(),
            [&channel = parts.channel](v1::WorkerMessage message) {
              channel.Send(std::move(message));
            },
            parts.clock)),
        logger_(WithJob(*parts.logger, start.job_id())),
        spans_(parts.clock, parts.channel.world_rank(), RangeMarksOf(parts.device)) {
    logger_->sinks().push_back(log_sink_);
    thread_ = std::thread([this] { Run(); });
  }
  ~Job() { thread_.join(); }

  const std::string& id() const { return start_.job_id(); }
  /// Of its thread; 0: not running yet.
  pid_t thread_id() const { return thread_id_.load(); }
  std::optional<StageDeadline::Hang> Look(double seconds) {
    const uint64_t number = stage_.number();
    return deadline_.Look(stage_.stage(), number, seconds);
  }
  bool ended() const { return ended_.HasBeenNotified(); }
  bool WaitUntilEnded(std::chrono::milliseconds timeout) const {
    return ended_.WaitForNotificationWithTimeout(absl::FromChrono(timeout));
  }

  void Profile(const std::string& folder, int64_t num_epochs) {
    spans_.Request(folder, num_epochs);
  }

  /// After ended(): what to tell the controller.
  const v1::WorkerMessage& ended_message() const { return ended_message_; }

  void Stop(const std::string& reason) {
    stop_.Request();
    absl::MutexLock lock(&mutex_);
    if (gang_ != nullptr) {
      gang_->Abort(reason);
    }
  }

 private:
  void Run() {
    thread_id_.store(gettid());
    std::optional<CrashWatch::ThreadStack> handler_stack;
    if (parts_.crashes != nullptr) handler_stack.emplace();
    absl::Status status = RunCatching([this] { return RunInGang(); });
    if (!status.ok() && stop_.requested()) {
      status = absl::CancelledError(status.message());
    }
    {
      absl::MutexLock lock(&mutex_);
      if (gang_ != nullptr && !status.ok()) {
        gang_->Abort(absl::StrCat("its job ended: ", status.message()));
      }
      gang_.reset();
    }
    if (status.ok()) {
      logger_->info("the job has ended on this rank");
    } else {
      logger_->warn("the job has ended on this rank: {}", status.ToString());
    }
    log_sink_->Close();
    v1::WorkerMessage message;
    message.mutable_ended()->set_job_id(id());
    message.mutable_ended()->set_code(static_cast<int>(status.code()));
    message.mutable_ended()->set_message(std::string(status.message()));
    message.mutable_ended()->set_gang_tag(start_.gang().tag());
    if (const auto fault = FaultOf(status); fault.has_value()) {
      message.mutable_ended()->mutable_fault()->set_whose(static_cast<int>(fault->whose));
      message.mutable_ended()->mutable_fault()->set_passes(fault->passes);
    }
    if (const std::optional<std::string> waiting_for = PausesJobFor(status)) {
      message.mutable_ended()->set_pauses_job(true);
      message.mutable_ended()->set_waiting_for(*waiting_for);
    }
    if (const std::optional<int64_t> epochs = RollsBackTo(status)) {
      message.mutable_ended()->set_rolls_back_to(*epochs);
    }
    ended_message_ = std::move(message);
    ended_.Notify();
  }

  absl::Status RunInGang() {
    const auto& ranks = start_.gang().world_ranks();
    const auto self = std::find(ranks.begin(), ranks.end(), parts_.channel.world_rank());
    if (self == ranks.end()) {
      return absl::InvalidArgumentError("StartJob went to a rank that is not in the gang");
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(auto uncounted, parts_.open_gang(start_.gang()));
    auto opened = std::make_unique<CountedCommunicator>(std::move(uncounted), sent_);
    Communicator& gang = *opened;
    {
      absl::MutexLock lock(&mutex_);
      gang_ = std::move(opened);
    }
    if (stop_.requested()) {  // StopJob came before there was anything to abort.
      return absl::CancelledError("stopped before the gang was formed");
    }
    IMAGEDDPO_RETURN_IF_ERROR(MeetGang(gang, absl::StrJoin(ranks, ","), gang_timeout_));
    JobContext context{
        .start = start_,
        .gang_rank = static_cast<int>(self - ranks.begin()),
        .gang = gang,
        .device = parts_.device,
        .clock = parts_.clock,
        .logger = logger_,
        .stop = stop_,
        .report = [&channel = parts_.channel](
                      v1::WorkerMessage message) { channel.Send(std::move(message)); },
        .spans = &spans_,
        .stage = &stage_};
    return parts_.run_job(context);
  }

  const Parts& parts_;
  const v1::StartJob start_;
  const std::shared_ptr<SentBytes> sent_;
  const std::chrono::milliseconds gang_timeout_;
  StageMark stage_;
  StageDeadline deadline_;  // Of the worker's thread.
  std::atomic<pid_t> thread_id_{0};
  const std::shared_ptr<JobLogSink> log_sink_;  // To the job's log.
  const std::shared_ptr<spdlog::logger> logger_;
  StopToken stop_;
  SpanLog spans_;
  absl::Mutex mutex_;
  std::unique_ptr<Communicator> gang_ ABSL_GUARDED_BY(mutex_);
  v1::WorkerMessage ended_message_;  // Written before ended_ is notified.
  absl::Notification ended_;
  std::thread thread_;
};

Worker::Worker(Parts parts, const Options& options) : parts_(std::move(parts)), options_(options) {}

Worker::~Worker() = default;

bool Worker::job_abandoned() const { return job_ != nullptr; }

int Worker::Run() {
  SayHello();
  double last_look = parts_.clock.NowSeconds();
  double last_heartbeat = last_look;
  double without_lease = 0;
  while (true) {
    const auto message = parts_.channel.Receive(job_ == nullptr ? kLook : kLook / 4);
    const double now = parts_.clock.NowSeconds();
    const double looked_away = std::min(now - last_look, kLongestLookSeconds);
    without_lease += looked_away;
    last_look = now;
    if (message.has_value()) {
      if (message->has_lease()) {
        without_lease = 0;
        lease_number_ = message->lease().number();
      }
      Handle(*message);
    }
    ReapJob();
    if (shutdown_) {
      EndJob("the service ends");
      return 0;
    }
    if (parts_.channel.ControllerFailed() || without_lease >= Seconds(options_.lease_timeout)) {
      parts_.logger->error("the controller (rank 0) is gone: {}; this rank ends with exit code {}",
                           parts_.channel.ControllerFailed()
                               ? "its process has ended"
                               : absl::StrCat("no lease for ", without_lease, " s"),
                           kExitRestart);
      EndJob("the controller is gone");
      return kExitRestart;
    }
    TellOfCrash();
    if (JobHangs(looked_away)) return kExitRestart;
    if (now - last_heartbeat >= Seconds(options_.heartbeat_interval)) {
      last_heartbeat = now;
      SendHeartbeat();
    }
  }
}

void Worker::SayHello() {
  v1::WorkerMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_hostname(HostName());
  hello.set_pid(getpid());
  hello.set_device(parts_.device.str());
  hello.set_cores(AvailableProcessors());
  hello.set_host_memory_bytes(HostMemoryBytes());
  hello.set_device_memory_bytes(parts_.device_memory_bytes);
  hello.set_device_id(parts_.identity.id);
  hello.set_device_name(parts_.identity.name);
  const ProcessId process = ThisProcess();
  hello.mutable_process()->set_host(process.host);
  hello.mutable_process()->set_pid(process.pid);
  hello.mutable_process()->set_start_ticks(process.start_ticks);
  parts_.channel.Send(std::move(message));
}

void Worker::SendHeartbeat() {
  v1::WorkerMessage message;
  message.mutable_heartbeat()->set_lease_number(lease_number_);
  *message.mutable_heartbeat()->mutable_stats() = StatsOf(parts_.device, *sent_, parts_.sensors);
  parts_.channel.Send(std::move(message));
}

void Worker::TellOfCrash() {
  if (crash_told_ || parts_.crashes == nullptr || parts_.crashes->Signal() == 0) return;
  crash_told_ = true;
  parts_.logger->critical("this process is about to die of signal {}", parts_.crashes->Signal());
  v1::WorkerMessage message;
  message.mutable_crashed()->set_signal(parts_.crashes->Signal());
  parts_.channel.Send(std::move(message));
}

bool Worker::JobHangs(double seconds) {
  if (job_ == nullptr) return false;
  const std::optional<StageDeadline::Hang> hang = job_->Look(seconds);
  if (!hang.has_value()) return false;
  parts_.logger->critical(
      "job {} hangs: stage '{}' has made no progress for {:.0f} s, and its limit is {:.0f} s; this "
      "rank ends. Where it is:",
      job_->id(), hang->stage, hang->seconds, hang->limit);
  parts_.logger->flush();
  const absl::Status dumped = DumpStack(job_->thread_id(), STDERR_FILENO);
  if (!dumped.ok()) parts_.logger->critical("no stack: {}", std::string(dumped.message()));
  v1::WorkerMessage message;
  v1::Hung& hung = *message.mutable_hung();
  hung.set_job_id(job_->id());
  hung.set_stage(hang->stage);
  hung.set_seconds(hang->seconds);
  hung.set_limit(hang->limit);
  hung.set_stack(std::string(dumped.message()));
  parts_.channel.Send(std::move(message));
  std::this_thread::sleep_for(kFarewell);
  return true;
}

void Worker::KillOther(const v1::KillProcess& message) {
  const v1::ProcessRef& process = message.process();
  const absl::Status status = KillProcess({process.host(), process.pid(), process.start_ticks()});
  parts_.logger->warn("killing rank {} (pid {}), which does not answer: {}", message.world_rank(),
                      process.pid(), status.ok() ? "done" : std::string(status.message()));
}

void Worker::Handle(const v1::ControllerMessage& message) {
  switch (message.message_case()) {
    case v1::ControllerMessage::kStartJob:
      StartJob(message.start_job());
      return;
    case v1::ControllerMessage::kStopJob:
      StopJob(message.stop_job().job_id(), message.stop_job().reason());
      return;
    case v1::ControllerMessage::kShutdown:
      shutdown_ = true;
      return;
    case v1::ControllerMessage::kKillProcess:
      KillOther(message.kill_process());
      return;
    case v1::ControllerMessage::kProfile:
      ProfileJob(message.profile());
      return;
    case v1::ControllerMessage::kLease:
    case v1::ControllerMessage::MESSAGE_NOT_SET:
      return;
  }
}

void Worker::StartJob(const v1::StartJob& start) {
  if (job_ != nullptr) {
    v1::WorkerMessage message;
    message.mutable_ended()->set_job_id(start.job_id());
    message.mutable_ended()->set_code(static_cast<int>(absl::StatusCode::kFailedPrecondition));
    message.mutable_ended()->set_message(
        absl::StrCat("this rank is running job ", job_->id(), " already"));
    message.mutable_ended()->set_gang_tag(start.gang().tag());
    parts_.channel.Send(std::move(message));
    return;
  }
  job_ = std::make_unique<Job>(parts_, start, options_.gang_timeout, sent_);
}

void Worker::StopJob(const std::string& job_id, const std::string& reason) {
  if (job_ != nullptr && job_->id() == job_id) {
    job_->Stop(reason);
  }
}

void Worker::ProfileJob(const v1::ProfileEpochs& profile) {
  if (job_ != nullptr && job_->id() == profile.job_id()) {
    job_->Profile(profile.folder(), profile.num_epochs());
  }
}

void Worker::ReapJob() {
  if (job_ != nullptr && job_->ended()) {
    const v1::WorkerMessage message = job_->ended_message();
    job_.reset();    // The rank is free before the controller hears of it,
    malloc_trim(0);  // and its memory is the host's again.
    parts_.channel.Send(message);
  }
}

void Worker::EndJob(const std::string& reason) {
  if (job_ == nullptr) {
    return;
  }
  job_->Stop(reason);
  if (job_->WaitUntilEnded(options_.stop_timeout)) {
    ReapJob();
  } else {
    parts_.logger->error("job {} did not stop within {} ms", job_->id(),
                         options_.stop_timeout.count());
  }
}

}  // namespace imageddpo
