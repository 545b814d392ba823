#include "rollout/reward/remote/remote_reward.h"

#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "rollout/reward/remote/attempt.h"
#include "rollout/reward/remote/troubles.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kScore[] = "/imageddpo.v1.RewardService/Score";
constexpr char kDescribe[] = "/imageddpo.v1.RewardService/Describe";
constexpr char kHealthCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kServing[] = "\x08\x01";  // HealthCheckResponse{status: SERVING}, as bytes.
constexpr milliseconds kHealthTimeout{2'000};
constexpr milliseconds kDescribeTimeout{10'000};
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{5'000};
constexpr double kJitter = 0.2;
constexpr size_t kMostBytes = size_t{2} << 30;  // Of a protobuf message.

/// What calls of one reward share.
struct Shared {
  Shared(RemoteRewardOptions given, const Clock& used_clock)
      : options(std::move(given)), clock(used_clock) {}

  const RemoteRewardOptions options;
  const Clock& clock;
  const std::shared_ptr<Replicas> replicas = std::make_shared<Replicas>(options);
  /// Spreads the calls of many ranks in time. Nothing that is sampled depends on it.
  std::minstd_rand jitter{std::random_device{}()};
  std::string version;                  // As described.
  std::vector<std::string> part_names;  // Of the first answer.

  std::string Named(size_t replica) const {
    return absl::StrCat("reward service '", options.name, "' at ", replicas->address(replica));
  }
  std::string AllAddresses() const {
    std::vector<std::string> addresses;
    for (size_t i = 0; i < replicas->size(); ++i) addresses.push_back(replicas->address(i));
    return absl::StrJoin(addresses, ", ");
  }
};

/// Decides how often and how long something is tried.
class Patience {
 public:
  explicit Patience(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  /// Takes in that a try has failed. @return OK: try again after Pause(); else the final error.
  /// @param num_asked  replicas that were asked in this try. The wait is told once all were.
  absl::Status Failed(const Trouble& trouble, size_t replica, size_t num_asked = 1) {
    const RemoteRewardOptions& options = shared_->options;
    if (IsFinal(trouble.kind)) return Final(replica, trouble.what);
    shared_->replicas->SetAway(replica, trouble.kind == TroubleKind::kAway);
    if (trouble.kind == TroubleKind::kAway) {
      const auto now = steady_clock::now();
      if (!away_since_) {
        away_since_ = now;
        wall_time_ = shared_->clock.WallTime();
      }
      const std::string away =
          absl::StrCat("reward service '", options.name, "' (", shared_->AllAddresses(), ") since ",
                       wall_time_, ": ", trouble.what);
      num_away_ += num_asked;
      if (num_away_ >= shared_->replicas->size() && waiting_for_.empty()) {
        waiting_for_ = away;
      }
      if (now - *away_since_ < options.max_outage) return absl::OkStatus();
      return PausesJob(
          absl::FailedPreconditionError(absl::StrCat(
              "the job's ranks have waited ",
              std::chrono::duration_cast<std::chrono::seconds>(now - *away_since_).count(),
              " s (`max_outage_seconds`) for ", away,
              "; start the service, and the job goes on by itself after its last finished epoch")),
          away);
    }
    num_away_ = 0;
    away_since_.reset();
    waiting_for_.clear();
    if (num_faults_++ < options.max_retries) return absl::OkStatus();
    return Final(replica, num_faults_ == 1
                              ? trouble.what
                              : absl::StrCat(trouble.what, " (in ", num_faults_, " tries)"));
  }

  absl::Status Final(size_t replica, const std::string& what) const {
    return absl::FailedPreconditionError(absl::StrCat(shared_->Named(replica), ": ", what));
  }

  /// How long to wait before the next try: longer each time, never quite the same, and no longer
  /// than the rest of the longest outage.
  milliseconds Pause() {
    const milliseconds pause = std::exchange(pause_, std::min(2 * pause_, kLongestPause));
    const double factor =
        std::uniform_real_distribution<double>(1 - kJitter, 1 + kJitter)(shared_->jitter);
    const milliseconds varied(std::llround(static_cast<double>(pause.count()) * factor));
    if (!away_since_) return varied;
    const auto left = *away_since_ + shared_->options.max_outage - steady_clock::now();
    return std::clamp(std::chrono::duration_cast<milliseconds>(left), milliseconds(1), varied);
  }

  const std::string& waiting_for() const { return waiting_for_; }

 private:
  std::shared_ptr<Shared> shared_;
  std::optional<steady_clock::time_point> away_since_;
  std::string wall_time_;  // Of away_since_.
  size_t num_away_ = 0;    // Replicas that were away in a row.
  std::string waiting_for_;
  int num_faults_ = 0;
  milliseconds pause_ = kFirstPause;
};

/// Sleeps until `when`. @return as Attempt::Await().
absl::Status SleepUntil(steady_clock::time_point when, steady_clock::time_point deadline,
                        const std::string& waiting_for, const WaitWatch& watch) {
  while (steady_clock::now() < when) {
    if (steady_clock::now() >= deadline) return absl::DeadlineExceededError("no answer yet");
    std::this_thread::sleep_until(std::min({when, deadline, steady_clock::now() + kWatchInterval}));
    IMAGEDDPO_RETURN_IF_ERROR(watch(waiting_for));
  }
  return absl::OkStatus();
}

/// Asks a replica's health. @return false: it does not answer, or is not serving. The error is the
/// watch's.
absl::StatusOr<bool> IsHealthy(const Shared& shared, size_t replica, const std::string& waiting_for,
                               const WaitWatch& watch) {
  const grpc::Slice no_service_name;  // HealthCheckRequest{}: of the server as a whole.
  Attempt attempt(shared.replicas, replica, kHealthCheck, grpc::ByteBuffer(&no_service_name, 1),
                  kHealthTimeout);
  const absl::Status ended =
      attempt.Await(steady_clock::now() + 2 * kHealthTimeout, waiting_for, watch);
  if (absl::IsDeadlineExceeded(ended)) return false;
  IMAGEDDPO_RETURN_IF_ERROR(ended);
  if (attempt.status().error_code() == grpc::StatusCode::UNIMPLEMENTED) return true;
  return attempt.status().ok() && attempt.AnswerBytes() == kServing;
}

class Call final : public RemoteCall {
 public:
  Call(std::shared_ptr<Shared> shared, RemoteBatch batch)
      : shared_(std::move(shared)),
        patience_(shared_),
        request_(std::move(batch.request)),
        bytes_(WithPixels(request_, batch.generated, batch.inputs, batch.targets)) {
    if (bytes_.Length() < kMostBytes) Try();
  }

  absl::StatusOr<v1::ScoreResponse> Wait(steady_clock::time_point deadline,
                                         const WaitWatch& watch) override {
    if (bytes_.Length() >= kMostBytes) {
      return patience_.Final(
          0, absl::StrCat("a batch of ", request_.items_size(), " images is ",
                          bytes_.Length() >> 20, " MiB; give a `max_batch` in its description"));
    }
    while (true) {
      if (attempt_ == nullptr) {
        IMAGEDDPO_RETURN_IF_ERROR(SleepUntil(next_try_, deadline, patience_.waiting_for(), watch));
        Try();
      }
      IMAGEDDPO_RETURN_IF_ERROR(attempt_->Await(deadline, patience_.waiting_for(), watch));
      v1::ScoreResponse answer;
      IMAGEDDPO_ASSIGN_OR_RETURN(Trouble trouble, Judge(&answer, watch));
      const bool faults_are_items = shared_->options.faults_are_items;
      const bool is_answered = trouble.kind == TroubleKind::kNone;
      shared_->options.on_call(is_answered, attempt_->seconds());
      if (is_answered) trouble.kind = JudgeItems(/*one_ends_all=*/!faults_are_items, &answer);
      const absl::Status patience = trouble.kind == TroubleKind::kNone
                                        ? absl::OkStatus()
                                        : patience_.Failed(trouble, attempt_->replica());
      const bool is_final = trouble.kind == TroubleKind::kNone || !patience.ok();
      if (is_final && (is_answered || (faults_are_items && IsOfBatch(trouble.kind)))) {
        shared_->replicas->SetAway(attempt_->replica(), false);
        IMAGEDDPO_RETURN_IF_ERROR(watch(""));
        if (!is_answered) return AllFailed(patience);
        NameReplica(&answer);
        if (!HasValue(answer)) NameParts(&answer);
        return answer;
      }
      IMAGEDDPO_RETURN_IF_ERROR(patience);
      attempt_.reset();
      next_try_ = steady_clock::now() + patience_.Pause();
    }
  }

 private:
  void Try() {
    attempt_ = std::make_unique<Attempt>(shared_->replicas, shared_->replicas->Next(), kScore,
                                         bytes_, shared_->options.timeout);
  }

  absl::StatusOr<Trouble> Judge(v1::ScoreResponse* answer, const WaitWatch& watch) {
    Trouble trouble = JudgeStatus(attempt_->status());
    if (trouble.kind == TroubleKind::kSlow) return Slow(watch);
    if (trouble.kind != TroubleKind::kNone) return trouble;
    if (!attempt_->ParseAnswer(answer)) {
      return Trouble{TroubleKind::kFault, "its answer is no ScoreResponse"};
    }
    trouble = JudgeAnswer(*answer, request_.items_size(), shared_->version, shared_->part_names);
    if (trouble.kind != TroubleKind::kNone) return trouble;
    if (HasValue(*answer)) {
      shared_->part_names = {answer->part_names().begin(), answer->part_names().end()};
    }
    return trouble;
  }

  void NameReplica(v1::ScoreResponse* answer) const {
    for (v1::ItemScore& item : *answer->mutable_items()) {
      if (!item.has_error()) continue;
      item.mutable_error()->set_message(
          absl::StrCat("the service at ", shared_->replicas->address(attempt_->replica()), ": ",
                       item.error().message()));
    }
  }

  void NameParts(v1::ScoreResponse* answer) const {
    answer->mutable_part_names()->Assign(shared_->part_names.begin(), shared_->part_names.end());
  }

  /// An answer in which each item has this error.
  v1::ScoreResponse AllFailed(const absl::Status& fault) const {
    v1::ScoreResponse answer;
    answer.set_version(shared_->version);
    for (int i = 0; i < request_.items_size(); ++i) {
      answer.add_items()->mutable_error()->set_message(std::string(fault.message()));
    }
    NameParts(&answer);
    return answer;
  }

  /// No answer in time: away, if it is not healthy either.
  absl::StatusOr<Trouble> Slow(const WaitWatch& watch) {
    const std::string what = absl::StrCat(
        "no answer within ", absl::FormatDuration(absl::FromChrono(shared_->options.timeout)));
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool healthy, IsHealthy(*shared_, attempt_->replica(),
                                                             patience_.waiting_for(), watch));
    if (!healthy) return Trouble{TroubleKind::kAway, what};
    return Trouble{TroubleKind::kFault,
                   absl::StrCat(what, " to a batch of ", request_.items_size(),
                                " images, although it is healthy; make it faster, or raise "
                                "`timeout_seconds`")};
  }

  std::shared_ptr<Shared> shared_;
  Patience patience_;
  v1::ScoreRequest request_;
  grpc::ByteBuffer bytes_;
  std::unique_ptr<Attempt> attempt_;  ///< Null between two tries.
  steady_clock::time_point next_try_;
};

class Remote final : public RemoteReward {
 public:
  explicit Remote(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  absl::StatusOr<v1::DescribeResponse> Connect(const WaitWatch& watch) override {
    Patience patience(shared_);
    while (true) {
      std::optional<v1::DescribeResponse> found;
      Trouble failure;
      for (size_t replica = 0; replica < shared_->replicas->size(); ++replica) {
        v1::DescribeResponse description;
        IMAGEDDPO_ASSIGN_OR_RETURN(const Trouble trouble,
                                   Describe(replica, patience.waiting_for(), watch, &description));
        if (trouble.kind == TroubleKind::kNone) {
          if (found && found->SerializeAsString() != description.SerializeAsString()) {
            return patience.Final(
                replica,
                absl::StrCat("it describes itself in another way than the one at ",
                             shared_->replicas->address(0), "; all replicas must be alike"));
          }
          found = std::move(description);
        } else if (IsFinal(trouble.kind)) {
          return patience.Final(replica, trouble.what);
        } else {
          shared_->replicas->SetAway(replica, true);
          failure = {trouble.kind == TroubleKind::kSlow ? TroubleKind::kAway : trouble.kind,
                     trouble.what};
        }
      }
      if (found) {
        shared_->version = found->version();
        shared_->part_names = {found->part_names().begin(), found->part_names().end()};
        IMAGEDDPO_RETURN_IF_ERROR(watch(""));
        return *std::move(found);
      }
      IMAGEDDPO_RETURN_IF_ERROR(patience.Failed(failure, 0, shared_->replicas->size()));
      IMAGEDDPO_RETURN_IF_ERROR(SleepUntil(steady_clock::now() + patience.Pause(),
                                           steady_clock::time_point::max(), patience.waiting_for(),
                                           watch));
    }
  }

  std::unique_ptr<RemoteCall> Start(RemoteBatch batch) override {
    batch.request.set_api_version(kRewardApiVersion);
    return std::make_unique<Call>(shared_, std::move(batch));
  }

 private:
  absl::StatusOr<Trouble> Describe(size_t replica, const std::string& waiting_for,
                                   const WaitWatch& watch, v1::DescribeResponse* description) {
    v1::DescribeRequest request;
    request.set_api_version(kRewardApiVersion);
    Attempt attempt(shared_->replicas, replica, kDescribe, Serialized(request), kDescribeTimeout);
    IMAGEDDPO_RETURN_IF_ERROR(attempt.Await(steady_clock::time_point::max(), waiting_for, watch));
    const Trouble trouble = JudgeStatus(attempt.status());
    if (trouble.kind != TroubleKind::kNone) return trouble;
    if (!attempt.ParseAnswer(description)) {
      return Trouble{TroubleKind::kRefused, "its answer is no DescribeResponse"};
    }
    const Trouble unfit = JudgeDescription(*description);
    if (unfit.kind != TroubleKind::kNone) return unfit;
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool healthy,
                               IsHealthy(*shared_, replica, waiting_for, watch));
    if (!healthy) return Trouble{TroubleKind::kAway, "it says that it is not serving"};
    return Trouble{};
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<RemoteReward> RemoteReward::Make(RemoteRewardOptions options, const Clock& clock) {
  return std::make_unique<Remote>(std::make_shared<Shared>(std::move(options), clock));
}

}  // namespace imageddpo
