#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/config/compare/setting_list.h"
#include "deploy/imageddpo/report/subject.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

/// A number of every epoch, at the number of epochs trained.
Curve CurveOf(const Subject& subject, const std::string& name,
              const std::function<double(const v1::EpochMetrics&)>& value) {
  Curve curve{.name = name, .points = {}, .errors = {}};
  for (const v1::EpochMetrics& epoch : subject.history.epochs) {
    curve.points.emplace_back(static_cast<double>(epoch.epoch()) + 1, value(epoch));
  }
  return curve;
}

/// Parts of the rewards that are worth a curve: the values where there are several rewards, and
/// everything that is no value.
std::vector<std::string> PartsOf(const Subject& subject) {
  std::set<std::string> parts;
  for (const v1::EpochMetrics& epoch : subject.history.epochs) {
    for (const auto& [part, mean] : epoch.parts_mean()) {
      if (subject.job.spec().rewards_size() > 1 || !absl::EndsWith(part, ".value")) {
        parts.insert(part);
      }
    }
  }
  return {parts.begin(), parts.end()};
}

}  // namespace

std::string VerdictText(const Subject& subject) {
  return subject.trains() ? subject.verdict.name() : "an evaluation";
}

std::string MeanText(double mean, double error) {
  return absl::StrCat(FormatNumber(mean), " ± ", FormatNumber(error, 2));
}

std::string EpochsText(const Subject& subject) {
  return absl::StrCat(subject.history.epochs.size(), " of ", subject.job.spec().num_epochs());
}

Curve RewardsOf(const Subject& subject, const std::string& name) {
  Curve curve{.name = name, .points = {}, .errors = {}};
  for (size_t i = 0; i < subject.rewards.size(); ++i) {
    curve.points.emplace_back(static_cast<double>(subject.history.epochs[i].epoch()) + 1,
                              subject.rewards[i]);
  }
  return curve;
}

Curve EvaluationsOf(const Subject& subject, const std::string& name) {
  Curve curve{.name = name, .points = {}, .errors = {}};
  for (const v1::EvalEvent& eval : subject.history.evaluations) {
    curve.points.emplace_back(static_cast<double>(eval.epoch()), eval.reward_mean());
    curve.errors.push_back(eval.reward_stderr());
  }
  return curve;
}

Section AskedSection(const Subject& subject) {
  const std::vector<JobSetting> settings = SettingsOf(subject.job.spec());
  Section section{.title = "What was asked", .blocks = {}};
  Table changed{.headings = {"setting", "value", "default"}, .rows = {}};
  FoldedTable all{.title = absl::StrCat("All ", settings.size(), " settings"),
                  .table = {.headings = {"setting", "value"}, .rows = {}}};
  for (const JobSetting& setting : settings) {
    all.table.rows.push_back({setting.name, setting.value});
    if (!setting.is_default()) {
      changed.rows.push_back({setting.name, setting.value, setting.default_value});
    }
  }
  section.blocks.emplace_back(
      Paragraph{.text = "Model, data, rewards, and what differs from the defaults."});
  // What has to be said has no default, although a job without the rest has the same.
  std::vector<std::vector<std::string>> said;
  for (const JobSetting& setting : settings) {
    const bool is_said =
        setting.name == "model.path" || setting.name == "data.path" ||
        (absl::StartsWith(setting.name, "rewards.") &&
         (absl::EndsWith(setting.name, ".type") || absl::EndsWith(setting.name, ".measure") ||
          absl::EndsWith(setting.name, ".model")));
    if (is_said && setting.is_default()) said.push_back({setting.name, setting.value, "–"});
  }
  changed.rows.insert(changed.rows.begin(), said.begin(), said.end());
  section.blocks.emplace_back(std::move(changed));
  section.blocks.emplace_back(std::move(all));
  return section;
}

Section LearnedSection(const Subject& subject) {
  Section section{.title = "Did it learn?", .blocks = {}};
  if (!subject.trains()) {
    section.blocks.emplace_back(
        Paragraph{.text = "The job has no epochs: it is an evaluation alone."});
    return section;
  }
  section.blocks.emplace_back(Paragraph{.text = subject.verdict.name(), .is_strong = true});
  section.blocks.emplace_back(Paragraph{.text = absl::StrCat(subject.verdict.why, ".")});
  section.blocks.emplace_back(
      Paragraph{.text = absl::StrCat("The rule: ", subject.verdict.rule, ".")});
  const std::vector<v1::EvalEvent>& evaluations = subject.history.evaluations;
  if (evaluations.size() > 1) {
    const v1::EvalEvent &first = evaluations.front(), &last = evaluations.back();
    section.blocks.emplace_back(
        Paragraph{.text = absl::StrCat("On ", last.num_images(), " held-out images: reward ",
                                       MeanText(first.reward_mean(), first.reward_stderr()),
                                       " after ", first.epoch(), " epochs, ",
                                       MeanText(last.reward_mean(), last.reward_stderr()),
                                       " after ", last.epoch(), " (± standard error).")});
  }
  return section;
}

Section CurvesSection(const Subject& subject) {
  Section section{.title = "Curves", .blocks = {}};
  const auto add = [&section](const std::string& title, Curve curve) {
    section.blocks.emplace_back(
        Plot{.title = title, .x_label = "epochs trained", .curves = {std::move(curve)}});
  };
  add("Mean reward of an epoch", RewardsOf(subject, "reward"));
  if (!subject.history.evaluations.empty()) {
    add("Mean reward of held-out images, with standard errors",
        EvaluationsOf(subject, "held-out reward"));
  }
  for (const std::string& part : PartsOf(subject)) {
    add(absl::StrCat("Mean of ", part), CurveOf(subject, part, [&part](const v1::EpochMetrics& e) {
          const auto found = e.parts_mean().find(part);
          return found == e.parts_mean().end() ? NAN : found->second;
        }));
  }
  add("Standard deviation of an epoch's rewards",
      CurveOf(subject, "reward_std", [](const auto& e) { return e.reward_std(); }));
  add("Approximate KL of an update",
      CurveOf(subject, "approx_kl", [](const auto& e) { return e.approx_kl(); }));
  add("Share of clipped ratios",
      CurveOf(subject, "clipfrac", [](const auto& e) { return e.clipfrac(); }));
  add("Gradient norm", CurveOf(subject, "grad_norm", [](const auto& e) { return e.grad_norm(); }));
  add("Images per second",
      CurveOf(subject, "images_per_second", [](const auto& e) { return e.images_per_second(); }));
  return section;
}

Section PicturesSection(const Subject& subject) {
  Section section{.title = "Before and after", .blocks = {}};
  section.blocks.emplace_back(Paragraph{.text = subject.report.pictures_note});
  Gallery gallery{.columns = {"input", "before", "after"}, .rows = {}};
  const auto note = [](const std::optional<double>& reward) {
    return reward.has_value() ? absl::StrCat("reward ", FormatNumber(*reward, 3)) : "";
  };
  for (const BeforeAfter& picture : subject.report.pictures) {
    gallery.rows.push_back({.label = picture.label,
                            .cells = {{picture.input, ""},
                                      {picture.before, note(picture.reward_before)},
                                      {picture.after, note(picture.reward_after)}}});
  }
  if (!gallery.rows.empty()) section.blocks.emplace_back(std::move(gallery));
  return section;
}

Section EvaluationsSection(const Subject& subject) {
  Section section{.title = "Evaluations", .blocks = {}};
  const std::vector<v1::EvalEvent>& evaluations = subject.history.evaluations;
  if (evaluations.empty()) {
    section.blocks.emplace_back(Paragraph{
        .text = "None: the job has no held-out images (eval.path), or none was finished."});
    return section;
  }
  Table table{.headings = {"epochs trained#", "images#", "reward#"}, .rows = {}};
  std::set<std::string> parts;
  for (const v1::EvalEvent& eval : evaluations) {
    for (const auto& [part, mean] : eval.parts_mean()) parts.insert(part);
  }
  for (const std::string& part : parts) table.headings.push_back(part + "#");
  for (const v1::EvalEvent& eval : evaluations) {
    std::vector<std::string>& row = table.rows.emplace_back();
    row = {absl::StrCat(eval.epoch()), absl::StrCat(eval.num_images()),
           MeanText(eval.reward_mean(), eval.reward_stderr())};
    for (const std::string& part : parts) {
      const auto mean = eval.parts_mean().find(part);
      const auto error = eval.parts_stderr().find(part);
      row.push_back(
          mean == eval.parts_mean().end()
              ? "–"
              : MeanText(mean->second, error == eval.parts_stderr().end() ? 0 : error->second));
    }
  }
  section.blocks.emplace_back(std::move(table));
  section.blocks.emplace_back(
      Paragraph{.text = "± is the standard error of a mean, over the images. All evaluations are "
                        "of the same images under the same noise."});
  return section;
}

}  // namespace imageddpo
