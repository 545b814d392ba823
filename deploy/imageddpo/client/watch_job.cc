#include "deploy/imageddpo/client/watch_job.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/client/picture_strip.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/progress_line.h"

namespace imageddpo {
namespace {

constexpr double kLogProgressSeconds = 20;  ///< Without a terminal: after so long without a line.
constexpr size_t kStripRows = 10, kPictureColumns = 2 * kStripRows;  ///< Of a square picture.
constexpr int kMostPictureLooks = 10;  ///< For pictures that are not there: they may never be.

/// One call of WatchUntilEnd().
class Watcher {
 public:
  Watcher(Client& client, Screen& screen, Clock& clock, const v1::Job& job,
          const WatchOptions& options)
      : client_(client),
        screen_(screen),
        clock_(clock),
        options_(options),
        job_id_(job.id()),
        line_(job) {}

  ExitCode Run() {
    while (true) {
      absl::Status status = client_.WatchJob(job_id_, next_event_,
                                             [this](const v1::JobEvent& event) { OnEvent(event); });
      if (status.ok() && IsFinal(line_.state())) return Ended();
      // A stream that ends before the job does comes from a service that is being stopped.
      if (status.ok() || absl::IsUnavailable(status)) status = WaitForService();
      if (status.ok()) continue;
      screen_.Status("");
      if (!client_.is_interrupted()) return Report(status);
      screen_.Line(absl::StrCat(
          "Stopped watching; the job goes on. To watch it again: imageddpo watch ", job_id_));
      return ExitCode::kInterrupted;
    }
  }

 private:
  void OnEvent(const v1::JobEvent& event) {
    if (event.number() > 0) {
      if (event.number() < next_event_) return;
      next_event_ = event.number() + 1;
    }
    line_.Add(event);
    if (event.has_eval()) {
      if (first_eval_ < 0) first_eval_ = event.eval().epoch();
      newest_eval_ = event.eval().epoch();
      picture_looks_ = 0;
    }
    // Progress is not stored: events from now on are news.
    if (event.has_progress()) ShowPictures();
    if (screen_.is_terminal()) {
      // The changing line shows epochs; of a checkpoint only that it is there, at the end.
      const bool stays = event.has_state() || event.has_eval() || event.has_warning();
      if (stays) screen_.Line(line_.ForLog(event));
      const double now_s = clock_.NowSeconds();
      if (stays || now_s - last_draw_s_ >= kRedrawSeconds) {
        screen_.Status(line_.ForTerminal(Screen::TerminalWidth() - 1));
        last_draw_s_ = now_s;
      }
    } else if (const double now_s = clock_.NowSeconds();
               !event.has_progress() || now_s - last_draw_s_ >= kLogProgressSeconds) {
      screen_.Line(line_.ForLog(event));
      last_draw_s_ = now_s;
    }
  }

  /// Those of the newest evaluation, once their files are there.
  void ShowPictures() {
    if (!options_.pictures || !screen_.is_terminal() || newest_eval_ == shown_eval_) return;
    const double now_s = clock_.NowSeconds();
    if (picture_looks_ > 0 && now_s - last_look_s_ < kRetrySeconds) return;
    last_look_s_ = now_s;
    const bool is_first = newest_eval_ == first_eval_;
    const size_t each = (is_first ? 2 : 3) * kPictureColumns, width = Screen::TerminalWidth() - 1;
    const size_t count = std::max<size_t>(1, width / each);
    const auto strip =
        ReadPictureStrip(client_, job_id_, first_eval_, newest_eval_, static_cast<int>(count));
    if (!strip.ok()) {
      if (++picture_looks_ == kMostPictureLooks) shown_eval_ = newest_eval_;
      return;
    }
    shown_eval_ = newest_eval_;
    screen_.Line(absl::StrCat("held-out images: input, after ", first_eval_,
                              is_first ? "" : absl::StrCat(", after ", newest_eval_), " epochs"));
    // A strip of one image is narrower than it may be; pictures need not be square.
    const auto columns = static_cast<size_t>(2.0 * kStripRows * strip->width / strip->height);
    screen_.Line(PictureText(*strip, *options_.pictures, std::clamp<size_t>(columns, 1, width),
                             options_.has_true_colour));
  }

  // OK once the service answers again.
  absl::Status WaitForService() {
    const double lost_s = clock_.NowSeconds();
    screen_.Line(absl::StrCat("The connection to the service is lost; waiting up to ",
                              FormatDuration(options_.wait_seconds), " for it to come back."));
    while (true) {
      clock_.SleepSeconds(kRetrySeconds);
      if (client_.is_interrupted()) return absl::CancelledError("stopped watching");
      const absl::Status status = client_.GetJob(job_id_).status();
      if (status.ok()) {
        screen_.Line("The service is back.");
        return status;
      }
      if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
      const double waited_s = clock_.NowSeconds() - lost_s;
      if (waited_s > options_.wait_seconds) {
        return absl::UnavailableError(absl::StrCat(
            "the service did not come back within ", FormatDuration(options_.wait_seconds),
            "; its jobs are on disk and go on when it is started again. ", status.message()));
      }
      screen_.Status(absl::StrCat("waiting for the service, ", FormatDuration(waited_s)));
    }
  }

  ExitCode Ended() {
    screen_.Status("");
    picture_looks_ = 0;  // A last look, however short ago the one before was.
    ShowPictures();
    const absl::StatusOr<v1::Job> job = client_.GetJob(job_id_);
    std::string summary = absl::StrCat(job_id_, " ", StateName(line_.state()));
    if (job.ok()) {
      absl::StrAppend(&summary, " after ", FormatSpan(job->start_time(), job->end_time()));
      if (job->spec().num_epochs() > 0) {
        absl::StrAppend(&summary, ", ", job->progress().epoch(), " epochs");
      }
      if (job->resume_count() > 0)
        absl::StrAppend(&summary, ", resumed ", job->resume_count(), "×");
    }
    if (line_.has_epochs()) {
      absl::StrAppend(&summary, ": reward ", FormatNumber(line_.first_reward()), " → ",
                      FormatNumber(line_.last_reward()));
    }
    screen_.Line(summary);
    if (job.ok() && !job->lora_path().empty()) {
      screen_.Line(absl::StrCat("LoRA: ", Printable(job->lora_path())));
    }
    if (job.ok() && !job->best_lora_path().empty()) {
      screen_.Line(absl::StrCat("best LoRA, after ", job->best_epoch(),
                                " epochs: ", Printable(job->best_lora_path())));
    }
    if (line_.state() == v1::SUCCEEDED) return ExitCode::kOk;
    if (!line_.state_reason().empty()) {
      std::cerr << "imageddpo: " << Printable(line_.state_reason(), /*keep_newlines=*/true)
                << std::endl;
    }
    return ExitCode::kJobFailed;
  }

  Client& client_;
  Screen& screen_;
  Clock& clock_;
  const WatchOptions options_;
  const std::string job_id_;
  ProgressLine line_;
  int64_t next_event_ = 1;
  double last_draw_s_ = -1;
  int64_t first_eval_ = -1, newest_eval_ = -1, shown_eval_ = -1;  // By epoch; -1: none.
  int picture_looks_ = 0;  // That found no pictures of the newest one.
  double last_look_s_ = 0;
};

}  // namespace

ExitCode WatchUntilEnd(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
                       const WatchOptions& options) {
  const absl::StatusOr<v1::Job> job = client.GetJob(job_id);
  if (!job.ok()) return Report(job.status());
  return Watcher(client, screen, clock, *job, options).Run();
}

}  // namespace imageddpo
