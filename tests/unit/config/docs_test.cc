// docs/settings.md and the example jobs, compared with the schema and the defaults.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/config/job_config.h"
#include "common/config/resolve_steps.h"
#include "common/config/resolved_job.h"
#include "common/config/reward_types.h"
#include "common/config/yaml/settings_schema.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

std::string SourceDir() { return std::getenv("IMAGEDDPO_SOURCE_DIR"); }

std::string ReadText(const fs::path& file) {
  std::ifstream stream(file);
  EXPECT_TRUE(stream) << file;
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// Rows of tables: first cell to second, `name` without its backticks.
std::map<std::string, std::string> Rows(const std::string& section) {
  std::map<std::string, std::string> rows;
  std::istringstream lines(section);
  for (std::string line; std::getline(lines, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    EXPECT_GE(cells.size(), 3U) << line;
    const std::string name = cells[0].substr(3, cells[0].size() - 4);
    EXPECT_TRUE(rows.emplace(name, cells[1]).second) << name << " has two rows";
  }
  return rows;
}

// "sample.num_steps" of a job with every default to "50", as it stands in a job file.
std::map<std::string, std::string> Defaults() {
  v1::JobSpec job =
      *ParseJobYaml("rewards: [{type: service}, {type: l1}, {type: jpeg}]", "defaults");
  FillDefaults(&job);
  std::map<std::string, std::string> defaults;
  std::string section, subsection;
  std::istringstream lines(JobToYaml(job));
  for (std::string line; std::getline(lines, line);) {
    const size_t indent = line.find_first_not_of(' ');
    const bool is_nested = indent > 0;
    if (indent <= 2) subsection.clear();
    const std::string text(absl::StripPrefix(absl::StripAsciiWhitespace(line), "- "));
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(text, absl::MaxSplits(": ", 1));
    if (indent == 2 && text.back() == ':') {
      subsection = text.substr(0, text.size() - 1) + ".";
    } else if (is_nested) {
      defaults[section + "." + subsection + parts.first] = parts.second;
    } else if (text.back() == ':') {
      section = text.substr(0, text.size() - 1);
    } else {
      defaults[parts.first] = parts.second;
    }
  }
  return defaults;
}

TEST(SettingsPage, HasEverySettingOfAJobAndNoOther) {
  const std::string page = ReadText(SourceDir() + "/docs/settings.md");
  const std::string jobs = page.substr(0, page.find("## The service"));
  const std::map<std::string, std::string> rows = Rows(jobs);
  std::set<std::string> known;
  for (const Setting& setting : AllSettings(*v1::JobSpec::descriptor())) {
    known.insert(setting.path);
    if (setting.field->message_type() != nullptr) {
      EXPECT_TRUE(absl::StrContains(jobs, "`" + setting.path + "`")) << setting.path;
    } else {
      EXPECT_TRUE(rows.contains(setting.path)) << setting.path << " is not in docs/settings.md";
    }
  }
  for (const auto& [path, unused] : rows)
    EXPECT_TRUE(known.contains(path)) << path << " is no setting";
}

TEST(SettingsPage, HasEveryTypeOfRewardAndEveryMeasure) {
  const std::string page = ReadText(SourceDir() + "/docs/settings.md");
  for (const RewardTypeInfo& type : RewardTypes()) {
    EXPECT_TRUE(absl::StrContains(page, absl::StrCat("`", type.name, "`"))) << type.name;
    for (const RewardMeasureInfo& measure : type.measures) {
      EXPECT_TRUE(absl::StrContains(page, absl::StrCat("`", measure.name, "`"))) << measure.name;
    }
  }
}

TEST(SettingsPage, HasTheDefaults) {
  const std::string page = ReadText(SourceDir() + "/docs/settings.md");
  const std::map<std::string, std::string> rows = Rows(page.substr(0, page.find("## The service")));
  const std::map<std::string, std::string> defaults = Defaults();
  EXPECT_GT(defaults.size(), 40U);
  // These follow from other settings; the page says how.
  const std::set<std::string> derived = {
      "device.device_batch_size", "eval.batch_size", "eval.num_steps", "eval.noise_strength",
      "eval.guidance_scale",      "eval.eta",        "rewards.clamp"};
  for (const auto& [path, text] : rows) {
    if (derived.contains(path)) continue;
    if (text == "required" || text == "–") {
      EXPECT_TRUE(!defaults.contains(path) || path == "rewards.type") << path << " has a default";
    } else {
      ASSERT_TRUE(defaults.contains(path)) << path << " has no default";
      EXPECT_EQ(text, "`" + defaults.at(path) + "`") << path;
    }
  }
}

TEST(SettingsPage, HasEverySettingOfTheService) {
  const std::string page = ReadText(SourceDir() + "/docs/settings.md");
  const size_t begin = page.find("## The service");
  const std::map<std::string, std::string> rows =
      Rows(page.substr(begin, page.find("## The client") - begin));
  for (const char* setting : {"data_dir",
                              "base_dir",
                              "allowed_roots",
                              "rewards.allow",
                              "log.file",
                              "log.format",
                              "log.max_bytes",
                              "log.max_files",
                              "log_level",
                              "grpc.address",
                              "grpc.port",
                              "grpc.insecure",
                              "grpc.group",
                              "grpc.max_message_bytes",
                              "grpc.max_streams",
                              "http.address",
                              "http.port",
                              "http.insecure",
                              "access.token_file",
                              "access.tls_certificate_file",
                              "access.tls_key_file",
                              "access.tls_client_ca_file",
                              "pool.min_ranks",
                              "pool.drain_seconds",
                              "pool.heartbeat_timeout_seconds",
                              "pool.lease_seconds",
                              "pool.max_restarts",
                              "pool.stop_timeout_seconds",
                              "queue.fair_share_half_life_hours",
                              "queue.backfill",
                              "queue.preemption",
                              "queue.max_jobs",
                              "quotas.queued_jobs",
                              "quotas.running_ranks",
                              "quotas.disk_bytes",
                              "retention.events_days",
                              "retention.pictures_days",
                              "retention.checkpoints_days",
                              "retention.max_bytes",
                              "retention.min_free_bytes"}) {
    EXPECT_TRUE(rows.contains(setting)) << setting;
  }
}

TEST(ExampleJobs, AreValidWithoutWarnings) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(SourceDir() + "/deploy/jobs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    absl::StatusOr<v1::JobSpec> job = ParseJobYaml(ReadText(entry.path()), entry.path().string());
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ(job->name(), entry.path().stem().string());
    const absl::StatusOr<ResolvedJob> judged = ResolvedJob::Make(*job);
    ASSERT_TRUE(judged.ok()) << entry.path() << ": " << judged.status();
    EXPECT_THAT(judged->Warnings(), ::testing::IsEmpty()) << entry.path();
  }
  EXPECT_GE(count, 2);
}

}  // namespace
}  // namespace imageddpo
