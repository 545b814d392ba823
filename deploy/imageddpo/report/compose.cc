#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/compare/setting_list.h"
#include "common/config/job_states.h"
#include "deploy/imageddpo/report/subject.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

/// How several jobs compare: a row each, curves over one another, and the settings in which they
/// differ.
Section Compared(const std::vector<Subject>& subjects) {
  Section section{.title = "Compared", .blocks = {}};
  Table table{.headings = {"job", "name", "state", "epochs#", "learning?", "last held-out reward#",
                           "time#", "samples#"},
              .rows = {}};
  Plot rewards{.title = "Mean reward of an epoch", .x_label = "epochs trained", .curves = {}};
  Plot evaluations{.title = "Mean reward of held-out images, with standard errors",
                   .x_label = "epochs trained",
                   .curves = {}};
  std::vector<std::map<std::string, std::string>> settings;
  std::set<std::string> names;
  for (const Subject& subject : subjects) {
    const v1::Job& job = subject.job;
    const auto& evals = subject.history.evaluations;
    table.rows.push_back(
        {job.id(), job.spec().name(), StateName(job.state()), EpochsText(subject),
         VerdictText(subject),
         evals.empty() ? "–" : MeanText(evals.back().reward_mean(), evals.back().reward_stderr()),
         FormatSpan(job.start_time(), job.end_time()),
         absl::StrCat(job.progress().samples_seen())});
    rewards.curves.push_back(RewardsOf(subject, subject.label()));
    evaluations.curves.push_back(EvaluationsOf(subject, subject.label()));
    auto& values = settings.emplace_back();
    for (const JobSetting& setting : SettingsOf(job.spec())) {
      values[setting.name] = setting.value;
      names.insert(setting.name);
    }
  }
  Table different{.headings = {"setting"}, .rows = {}};
  for (const Subject& subject : subjects) different.headings.push_back(subject.job.id());
  for (const std::string& name : names) {
    std::vector<std::string> row = {name};
    for (auto& values : settings) row.push_back(values.contains(name) ? values[name] : "–");
    const bool differs = std::any_of(row.begin() + 2, row.end(),
                                     [&row](const std::string& value) { return value != row[1]; });
    if (differs) different.rows.push_back(std::move(row));
  }
  section.blocks = {std::move(table), std::move(rewards), std::move(evaluations),
                    Paragraph{.text = different.rows.empty() ? "They have the same settings."
                                                             : "Settings in which they differ:"}};
  if (!different.rows.empty()) section.blocks.emplace_back(std::move(different));
  return section;
}

}  // namespace

Document ComposeReport(const std::vector<JobReport>& jobs, const std::string& version) {
  const std::vector<Subject> subjects(jobs.begin(), jobs.end());
  Document document;
  std::vector<std::string> labels;
  for (const Subject& subject : subjects) labels.push_back(subject.label());
  document.title = absl::StrCat("Report: ", absl::StrJoin(labels, ", "));
  const bool is_one = subjects.size() == 1;
  document.subtitle =
      is_one ? absl::StrCat(StateName(subjects[0].job.state()),
                            subjects[0].job.state_reason().empty() ? "" : ": ",
                            subjects[0].job.state_reason(), " · ", EpochsText(subjects[0]),
                            " epochs · ", VerdictText(subjects[0]))
             : absl::StrCat(subjects.size(), " jobs");
  if (!is_one) document.sections.push_back(Compared(subjects));
  for (const Subject& subject : subjects) {
    for (Section section :
         {AskedSection(subject), LearnedSection(subject), CurvesSection(subject),
          PicturesSection(subject), EvaluationsSection(subject), WrongSection(subject),
          CostSection(subject), AgainSection(subject, version)}) {
      if (!is_one) section.title = absl::StrCat(subject.job.id(), ": ", section.title);
      document.sections.push_back(std::move(section));
    }
  }
  return document;
}

}  // namespace imageddpo
