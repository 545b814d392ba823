#include "deploy/imageddpo/text/progress_line.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

constexpr size_t kSparklineWidth = 12;
constexpr size_t kBarWidth = 20;

std::string Parts(const google::protobuf::Map<std::string, double>& parts) {
  const std::map<std::string, double> sorted(parts.begin(), parts.end());
  std::string text;
  for (const auto& [name, mean] : sorted) {
    absl::StrAppend(&text, "  ", Printable(name), " ", FormatNumber(mean));
  }
  return text;
}

}  // namespace

ProgressLine::ProgressLine(const v1::Job& job)
    : job_id_(job.id()),
      job_name_(job.spec().name()),
      state_(job.state()),
      state_reason_(job.state_reason()),
      progress_(job.progress()) {
  if (progress_.num_epochs() == 0) progress_.set_num_epochs(job.spec().num_epochs());
}

void ProgressLine::Add(const v1::JobEvent& event) {
  if (event.has_state()) {
    state_ = event.state().state();
    state_reason_ = event.state().reason();
    // Only ranks report that they wait.
    const bool has_ranks = state_ == v1::STARTING || state_ == v1::RUNNING || state_ == v1::PAUSING;
    if (!has_ranks) progress_.clear_waiting_for();
  } else if (event.has_progress()) {
    progress_ = event.progress();
  } else if (event.has_epoch()) {
    const v1::EpochMetrics& epoch = event.epoch();
    if (!epoch.has_sft_loss()) rewards_[epoch.epoch()] = epoch.reward_mean();
    progress_.set_epoch(epoch.epoch() + 1);
    progress_.set_samples_seen(epoch.samples_seen());
    *progress_.mutable_newest_epoch() = epoch;
  }
}

std::string ProgressLine::ForTerminal(size_t width) const {
  const auto epochs = static_cast<double>(progress_.num_epochs());
  double done = static_cast<double>(progress_.epoch());
  double stage_done = 0;
  if (progress_.epoch_samples() > 0) {
    stage_done = std::min(1.0, static_cast<double>(progress_.epoch_samples_done()) /
                                   static_cast<double>(progress_.epoch_samples()));
  }
  // Sampling is less than the whole epoch, so the bar waits a little at each epoch's end.
  if (progress_.stage() != "evaluating") done += stage_done;
  // A job without epochs is an evaluation.
  const bool is_evaluating = progress_.stage() == "evaluating";
  const double share = epochs > 0 ? done / epochs : is_evaluating ? stage_done : 0;
  std::string line =
      absl::StrCat(Truncate(Printable(job_name_), 24), " ▕", ProgressBar(share, kBarWidth), "▏");
  if (const std::string& what = progress_.waiting_for(); !what.empty()) {
    return Truncate(absl::StrCat(line, "  waits for ", OneLine(what)), width);
  }
  // What matters most comes first; what no longer fits is left out.
  std::vector<std::string> parts = Stage();
  if (!rewards_.empty()) {
    std::vector<double> history;
    for (const auto& [epoch, reward] : rewards_) history.push_back(reward);
    parts.push_back(absl::StrCat("reward ", FormatNumber(last_reward(), 3), " ",
                                 Sparkline(history, kSparklineWidth)));
  }
  if (progress_.seconds_left() > 0) {
    parts.push_back(FormatDuration(progress_.seconds_left()) + " left");
  }
  const v1::EpochMetrics& newest = progress_.newest_epoch();
  if (newest.images_per_second() > 0) {
    parts.push_back(absl::StrFormat("%.1f images/s", newest.images_per_second()));
  }
  for (const auto& [name, mean] :
       std::map<std::string, double>(newest.parts_mean().begin(), newest.parts_mean().end())) {
    parts.push_back(absl::StrCat(Printable(name), " ", FormatNumber(mean, 3)));
  }
  for (const auto& [stage, seconds] : std::map<std::string, double>(newest.stage_seconds().begin(),
                                                                    newest.stage_seconds().end())) {
    if (seconds > 0) parts.push_back(absl::StrFormat("%s %.1f s", Printable(stage), seconds));
  }
  for (const std::string& part : parts) {
    if (DisplayWidth(line) + 2 + DisplayWidth(part) > width) break;
    absl::StrAppend(&line, "  ", part);
  }
  return Truncate(line, width);
}

std::vector<std::string> ProgressLine::Stage() const {
  std::vector<std::string> parts;
  if (progress_.num_epochs() > 0) {
    parts.push_back(absl::StrCat("epoch ", progress_.epoch(), "/", progress_.num_epochs()));
  }
  if (!progress_.waiting_for().empty()) {
    parts.push_back(absl::StrCat("waits for ", OneLine(progress_.waiting_for())));
  } else if (state_ != v1::RUNNING) {
    parts.push_back(StateName(state_));
  } else if (!progress_.stage().empty()) {
    const bool has_samples = progress_.epoch_samples() > 0 && progress_.epoch_samples_done() > 0;
    parts.push_back(absl::StrCat(Printable(progress_.stage()),
                                 has_samples ? absl::StrCat(" ", progress_.epoch_samples_done(),
                                                            "/", progress_.epoch_samples())
                                             : ""));
  }
  return parts;
}

std::string ProgressLine::EpochText(const v1::EpochMetrics& epoch) const {
  std::string text = absl::StrCat("epoch ", epoch.epoch() + 1);
  if (progress_.num_epochs() > 0) absl::StrAppend(&text, "/", progress_.num_epochs());
  absl::StrAppend(&text, "  samples ", epoch.samples_seen());
  if (epoch.has_sft_loss()) {
    absl::StrAppend(&text, "  loss ", FormatNumber(epoch.sft_loss()));
  } else {
    absl::StrAppend(&text, "  reward ", FormatNumber(epoch.reward_mean()), " ± ",
                    FormatNumber(epoch.reward_std(), 3), "  loss ", FormatNumber(epoch.loss(), 3),
                    "  kl ", FormatNumber(epoch.approx_kl(), 3), "  clipped ",
                    absl::StrFormat("%.0f%%", epoch.clipfrac() * 100));
  }
  if (epoch.images_per_second() > 0) {
    absl::StrAppend(&text, absl::StrFormat("  %.1f images/s", epoch.images_per_second()));
  }
  if (progress_.seconds_left() > 0) {
    absl::StrAppend(&text, "  ", FormatDuration(progress_.seconds_left()), " left");
  }
  return text;
}

std::string ProgressLine::ForLog(const v1::JobEvent& event) const {
  switch (event.event_case()) {
    case v1::JobEvent::kState: {
      const std::string& reason = event.state().reason();
      return absl::StrCat(job_id_, " ", StateName(event.state().state()),
                          reason.empty() ? "" : ": ", OneLine(reason));
    }
    case v1::JobEvent::kProgress:
      return absl::StrJoin(Stage(), "  ");
    case v1::JobEvent::kEpoch:
      return EpochText(event.epoch());
    case v1::JobEvent::kEval:
      return absl::StrCat("evaluation after ", event.eval().epoch(), " epochs, ",
                          event.eval().num_images(), " images: reward ",
                          FormatNumber(event.eval().reward_mean()), " ± ",
                          FormatNumber(event.eval().reward_stderr()), " (standard error)",
                          Parts(event.eval().parts_mean()));
    case v1::JobEvent::kCheckpoint:
      return absl::StrCat("checkpoint of epoch ", event.checkpoint().epoch(), ": ",
                          Printable(event.checkpoint().path()));
    case v1::JobEvent::kWarning:
      return absl::StrCat("warning: ", OneLine(event.warning().message()));
    default:
      return "";
  }
}

}  // namespace imageddpo
