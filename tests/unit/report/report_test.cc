// A whole report from fixed data. It stays beside the test's program, as unit_report.html, to be
// looked at in a browser.

#include "deploy/imageddpo/report/report.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "common/config/compare/setting_list.h"
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "common/io/image.h"

namespace imageddpo {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kStartSeconds = 1769847330;  // 2026-01-31 08:15:30.

v1::JobSpec SpecOf(const std::string& more) {
  return ResolvedJob::Make(
             *ParseJobYaml("name: deblur\nmodel: {path: /m}\ndata: {path: /d}\n"
                           "eval: {path: /e, num_pictures: 8}\nnum_epochs: 80\n"
                           "rewards: [{type: classifier, model: /c.pt, measure: logit_change}]\n" +
                               more,
                           "job.yaml"))
      ->spec();
}

v1::JobEvent EvalAfter(int64_t epoch, double reward, double accuracy) {
  v1::JobEvent event;
  v1::EvalEvent& eval = *event.mutable_eval();
  eval.set_epoch(epoch);
  eval.set_num_images(500);
  eval.set_reward_mean(reward);
  eval.set_reward_stderr(0.04);
  (*eval.mutable_parts_mean())["classifier.correct"] = accuracy;
  (*eval.mutable_parts_stderr())["classifier.correct"] = 0.022;
  return event;
}

v1::JobEvent StateAt(int64_t seconds, v1::JobState state, const std::string& reason) {
  v1::JobEvent event;
  event.mutable_time()->set_seconds(kStartSeconds + seconds);
  event.mutable_state()->set_state(state);
  event.mutable_state()->set_reason(reason);
  return event;
}

/// A picture whose content depends on `index` and gets sharper with `detail`.
std::string Picture(int index, int detail) {
  constexpr int kSide = 28;
  Image image{.width = kSide, .height = kSide, .rgb = {}};
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const double wave = std::sin((x + index) * 0.45) * std::cos((y - index) * 0.35);
      const double value = 128 + 127 * std::tanh(wave * (detail + 1));
      for (int c = 0; c < 3; ++c) image.rgb.push_back(static_cast<uint8_t>(value));
    }
  }
  return *EncodePng(image);
}

/// A job that has run through the epochs of a recorded curve.
JobReport ReportOf(const std::string& id, const std::string& curve, const std::string& settings) {
  JobReport report;
  v1::Job& job = report.job;
  job.set_id(id);
  *job.mutable_spec() = SpecOf(settings);
  job.set_state(v1::SUCCEEDED);
  job.set_topology("rollout 1, trainer 1");
  job.mutable_create_time()->set_seconds(kStartSeconds - 2);
  job.mutable_start_time()->set_seconds(kStartSeconds);
  job.mutable_end_time()->set_seconds(kStartSeconds + 192);
  job.set_output_dir("/data/jobs/" + id);
  job.set_lora_path("/data/jobs/" + id + "/checkpoints/epoch-000080/lora.safetensors");
  job.set_resume_count(1);
  report.events = {StateAt(0, v1::RUNNING, ""),
                   StateAt(70, v1::RECOVERING, "rank 2: killed by signal 9")};
  report.events.push_back(EvalAfter(0, 0.12, 0.48));
  std::ifstream file(std::string(std::getenv("IMAGEDDPO_SOURCE_DIR")) + "/tests/data/learning/" +
                     curve + ".jsonl");
  EXPECT_TRUE(file);
  for (std::string line; std::getline(file, line);) {
    v1::EpochMetrics& epoch = *report.events.emplace_back().mutable_epoch();
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &epoch).ok());
    epoch.set_epoch_seconds(2.4);
    epoch.set_images_per_second(53);
    epoch.set_mfu(0.21);
    (*epoch.mutable_stage_seconds())["sample"] = 1.4;
    (*epoch.mutable_parts_mean())["classifier.correct"] = 0.4 + 0.2 * epoch.reward_mean();
    job.mutable_progress()->set_samples_seen(epoch.samples_seen());
  }
  report.events.push_back(EvalAfter(40, 0.88, 0.57));
  report.events.push_back(EvalAfter(80, 1.18, 0.61));
  report.events.emplace_back().mutable_warning()->set_message("the disk <b>is</b> nearly full");
  for (int i = 0; i < 8; ++i) {
    report.pictures.push_back({.label = "test/" + std::to_string(i),
                               .input = Picture(i, 0),
                               .before = Picture(i, 1),
                               .after = Picture(i, 4),
                               .reward_before = 0.1 * i,
                               .reward_after = 0.9 + 0.1 * i});
  }
  report.pictures_note = "The first held-out images: after 0 and after 80 epochs.";
  return report;
}

void Keep(const std::string& name, const std::string& content) {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  std::ofstream(folder / name, std::ios::binary) << content;
}

std::string TitlesOf(const Document& document) {
  std::string titles;
  for (const Section& section : document.sections) titles += section.title + "\n";
  return titles;
}

TEST(Report, TellsTheWholeStoryOfAJob) {
  const JobReport report = ReportOf("job-000001", "learning",
                                    "train: {learning_rate: 4e-3, batch_size: 32}\n"
                                    "sample: {batch_size: 128, num_batches_per_epoch: 1}\n");
  const Document document = ComposeReport({report}, "0.2.0");
  EXPECT_EQ(TitlesOf(document),
            "What was asked\nDid it learn?\nCurves\nBefore and after\nEvaluations\n"
            "What went wrong\nWhat it cost\nEnvironment, and how to run it again\n");
  EXPECT_EQ(document.subtitle, "SUCCEEDED · 80 of 80 epochs · learning");
  const std::string html = RenderHtml(document);
  for (const char* text : {
           "<td>train.learning_rate</td><td>0.004</td><td>0.0003</td>",
           "<p class=\"strong\">learning</p>",
           "On 500 held-out images: reward 0.12 ± 0.04 after 0 epochs, 1.18 ± 0.04 after 80",
           "Mean of classifier.correct",
           "reward 0.1</td>",
           "0.61 ± 0.022",
           "RECOVERING: rank 2: killed by signal 9",
           "the disk &lt;b&gt;is&lt;/b&gt; nearly full",
           "<td>from start to end</td><td>3m12s</td>",
           "<td>model FLOPs utilisation, median</td><td>21.0%</td>",
           "<td>samples</td><td>10240</td>",
           "<td>client</td><td>imageddpo 0.2.0</td>",
           "learning_rate: 0.004",
       }) {
    EXPECT_THAT(html, HasSubstr(text)) << text;
  }
  EXPECT_THAT(html, Not(HasSubstr("<td>train.clip_range</td><td>0.0001</td><td>")));
  Keep("unit_report.html", html);
  Keep("unit_report.md", RenderMarkdown(document));
}

TEST(Report, ComparesJobs) {
  const Document document =
      ComposeReport({ReportOf("job-000001", "learning", "train: {learning_rate: 4e-3}\n"),
                     ReportOf("job-000002", "collapsed", "train: {learning_rate: 1e-2}\n")},
                    "0.2.0");
  EXPECT_THAT(TitlesOf(document), testing::StartsWith("Compared\njob-000001: What was asked\n"));
  const auto& compared = document.sections[0].blocks;
  ASSERT_EQ(compared.size(), 5U);
  const auto& overview = std::get<Table>(compared[0]);
  ASSERT_EQ(overview.rows.size(), 2U);
  EXPECT_EQ(overview.rows[0][4], "learning");
  EXPECT_THAT(overview.rows[1][4], testing::StartsWith("collapsed at epoch "));
  EXPECT_EQ(std::get<Plot>(compared[1]).curves.size(), 2U);
  EXPECT_EQ(std::get<Plot>(compared[1]).curves[1].points.size(), 70U);
  const auto& different = std::get<Table>(compared[4]);
  EXPECT_THAT(different.rows,
              Contains(std::vector<std::string>{"train.learning_rate", "0.004", "0.01"}));
  EXPECT_EQ(different.rows.size(), 1U);
  Keep("unit_report_compared.html", RenderHtml(document));
}

TEST(Report, IsCompleteForAJobThatHasNothingYet) {
  JobReport report;
  report.job.set_id("job-000009");
  *report.job.mutable_spec() = SpecOf("");
  report.job.set_state(v1::QUEUED);
  report.pictures_note = "There are none.";
  const Document document = ComposeReport({report}, "0.2.0");
  EXPECT_EQ(document.subtitle, "QUEUED · 0 of 80 epochs · too early");
  const std::string html = RenderHtml(document);
  EXPECT_THAT(html, HasSubstr("Nothing: no warning"));
  EXPECT_THAT(html, Not(HasSubstr("<svg viewBox")));
}

TEST(SettingsOf, SaysWhatDiffersFromTheDefaults) {
  std::map<std::string, JobSetting> settings;
  for (const JobSetting& setting : SettingsOf(SpecOf("sample: {num_steps: 7}\n"))) {
    settings[setting.name] = setting;
  }
  EXPECT_EQ(settings.at("sample.num_steps").value, "7");
  EXPECT_FALSE(settings.at("sample.num_steps").is_default());
  EXPECT_TRUE(settings.at("train.adam_beta1").is_default());
  EXPECT_TRUE(settings.at("rewards.0.measure").is_default());  // Has to be said anyhow.
  EXPECT_EQ(settings.at("eval.path").value, "/e");
  EXPECT_EQ(settings.at("eval.path").default_value, "–");
}

}  // namespace
}  // namespace imageddpo
