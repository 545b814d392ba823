#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/learning/learning.h"
#include "deploy/imageddpo/report/report.h"

// The sections of a report that are about one job.
namespace imageddpo {

/// A job with what follows from its events.
struct Subject {
  /// @param job_report  must outlive the object.
  explicit Subject(const JobReport& job_report)
      : report(job_report),
        job(job_report.job),
        history(HistoryOf(job_report.job, job_report.events)),
        rewards(RewardCurve(history)),
        verdict(JudgeLearning(history)) {}

  const JobReport& report;
  const v1::Job& job;
  const JobHistory history;
  const std::vector<double> rewards;
  const LearningVerdict verdict;

  bool trains() const { return job.spec().num_epochs() > 0; }
  std::string label() const { return absl::StrCat(job.id(), " ", job.spec().name()); }
};

/// "learning", …; or that the job trains nothing.
std::string VerdictText(const Subject& subject);
std::string EpochsText(const Subject& subject);   ///< "12 of 80".
std::string MeanText(double mean, double error);  ///< "1.5 ± 0.1".

// Curves over the number of epochs trained.
Curve RewardsOf(const Subject& subject, const std::string& name);
Curve EvaluationsOf(const Subject& subject, const std::string& name);  ///< With errors.

Section AskedSection(const Subject& subject);
Section LearnedSection(const Subject& subject);
Section CurvesSection(const Subject& subject);
Section PicturesSection(const Subject& subject);
Section EvaluationsSection(const Subject& subject);
Section WrongSection(const Subject& subject);
Section CostSection(const Subject& subject);
Section AgainSection(const Subject& subject, const std::string& version);

}  // namespace imageddpo
