#include "trainer/controller/tensorboard/tensorboard_log.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/io/file.h"
#include "common/metrics/epoch_metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/tensorboard/record.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using v1::tensorboard::Event;
using v1::tensorboard::SessionLog;

constexpr int64_t kUpdates = 2;  // Of an epoch.

v1::EpochMetrics UpdateOf(int64_t epoch, int64_t update) {
  v1::EpochMetrics row;
  row.set_epoch(epoch);
  row.set_update(update);
  row.set_reward_mean(0.1 + static_cast<double>(epoch));
  row.set_loss(0.01 * static_cast<double>(update));
  row.set_skipped(update == 1);
  (*row.mutable_parts_mean())["jpeg.bytes"] = 970.25;
  return row;
}

v1::EpochReport ReportOf(int64_t epoch) {
  v1::EpochReport report;
  report.mutable_metrics()->set_epoch(epoch);
  report.mutable_metrics()->set_epoch_seconds(2.5);
  (*report.mutable_metrics()->mutable_stage_seconds())["train"] = 1.5;
  for (int64_t i = 0; i < kUpdates; ++i) {
    report.add_metrics_rows(RowOf(UpdateOf(epoch, epoch * kUpdates + i)).dump());
  }
  return report;
}

/// The first bytes of a PNG of 3 × 2 pixels: all that is looked at.
std::string PngHeader() {
  return absl::StrCat(absl::string_view("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02", 24),
                      "rest");
}

class TensorBoardLogTest : public testing::Test {
 protected:
  TensorBoardLog Log(FileSystem& file_system) {
    return {file_system, clock_, dir_ / "job", kUpdates};
  }
  std::vector<std::string> Files() const {
    return *PosixFileSystem().List(dir_ / "job/tensorboard");
  }
  /// Every event of a file; checks each record's length and checksums.
  std::vector<Event> EventsOf(const std::string& file) const {
    const std::string bytes = dir_.Read("job/tensorboard/" + file);
    std::vector<Event> events;
    for (size_t at = 0; at < bytes.size();) {
      uint64_t size = 0;
      for (size_t i = 8; i-- > 0;) size = size * 256 + static_cast<unsigned char>(bytes[at + i]);
      const std::string data = bytes.substr(at + 12, size);
      EXPECT_EQ(bytes.substr(at, size + 16), TfRecord(data));
      EXPECT_TRUE(events.emplace_back().ParseFromString(data));
      at += size + 16;
    }
    return events;
  }
  /// "tag at step" to value, as TensorBoard sees all files, one after the other.
  std::map<std::string, float> Scalars() const {
    std::map<std::pair<int64_t, std::string>, float> seen;
    for (const std::string& file : Files()) {
      for (const Event& event : EventsOf(file)) {
        if (event.session_log().status() == SessionLog::START) {
          std::erase_if(seen, [&](const auto& it) { return it.first.first >= event.step(); });
        }
        for (const auto& value : event.summary().value()) {
          if (value.has_simple_value()) seen[{event.step(), value.tag()}] = value.simple_value();
        }
      }
    }
    std::map<std::string, float> scalars;
    for (const auto& [key, value] : seen) {
      scalars[absl::StrCat(key.second, " at ", key.first)] = value;
    }
    return scalars;
  }

  TempDir dir_;
  PosixFileSystem file_system_;
  FakeClock clock_;
};

TEST_F(TensorBoardLogTest, HasTheNumbersOfEveryRow) {
  TensorBoardLog log = Log(file_system_);
  ASSERT_TRUE(log.ContinueFrom(0).ok());
  for (const int64_t epoch : {0, 1}) ASSERT_TRUE(log.WriteEpoch(ReportOf(epoch)).ok());
  ASSERT_TRUE(log.Sync().ok());
  ASSERT_EQ(Files().size(), 1U);
  EXPECT_EQ(EventsOf(Files()[0])[0].file_version(), "brain.Event:2");

  const std::map<std::string, float> scalars = Scalars();
  size_t count = 0;
  for (int64_t update = 0; update < 4; ++update) {
    const nlohmann::ordered_json row = RowOf(UpdateOf(update / kUpdates, update));
    for (const auto& [key, value] : row.items()) {
      if (key == "update" || key == "parts_mean") continue;
      const auto number =
          value.is_boolean() ? (value.get<bool>() ? 1.0 : 0.0) : value.get<double>();
      EXPECT_EQ(scalars.at(absl::StrCat("train/", key, " at ", update)),
                static_cast<float>(number));
      ++count;
    }
    EXPECT_EQ(scalars.at(absl::StrCat("parts_mean/jpeg.bytes at ", update)), 970.25F);
    ++count;
  }
  EXPECT_EQ(scalars.at("epoch/epoch_seconds at 1"), 2.5F);
  EXPECT_EQ(scalars.at("stage_seconds/train at 3"), 1.5F);
  EXPECT_EQ(scalars.at("epoch/mfu at 3"), 0);
  const auto of_rows = std::count_if(scalars.begin(), scalars.end(), [](const auto& scalar) {
    return scalar.first.starts_with("train/") || scalar.first.starts_with("parts_mean/");
  });
  EXPECT_EQ(static_cast<size_t>(of_rows), count);
}

TEST_F(TensorBoardLogTest, HasEvaluationsAndPictures) {
  TensorBoardLog log = Log(file_system_);
  ASSERT_TRUE(log.ContinueFrom(0).ok());
  v1::EvalReport eval;
  eval.set_epoch(3);
  eval.set_reward_mean(0.5);
  eval.set_reward_stderr(0.25);
  (*eval.mutable_parts_mean())["jpeg.bytes"] = 8;
  (*eval.mutable_parts_stderr())["jpeg.bytes"] = 2;
  for (const std::string& data : {PngHeader(), std::string("no PNG")}) {
    v1::NamedBytes* const picture = eval.add_pictures();
    picture->set_name("0-output.png");
    picture->set_data(data);
  }
  ASSERT_TRUE(log.WriteEval(eval).ok());
  const std::map<std::string, float> scalars = Scalars();
  EXPECT_EQ(scalars.at("eval/reward_mean at 6"), 0.5F);
  EXPECT_EQ(scalars.at("eval/reward_stderr at 6"), 0.25F);
  EXPECT_EQ(scalars.at("eval_parts_mean/jpeg.bytes at 6"), 8.0F);
  EXPECT_EQ(scalars.at("eval_parts_stderr/jpeg.bytes at 6"), 2.0F);

  const TensorBoardLog::File file = log.EvalFile(eval);
  EXPECT_EQ(file.directory, dir_ / "job/tensorboard/eval");
  EXPECT_EQ(file.name, "events.out.tfevents.0000000006.imageddpo");
  dir_.Write("job/tensorboard/pictures", file.content);
  const std::vector<Event> events = EventsOf("pictures");
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].step(), 6);
  const auto& values = events[1].summary().value();
  ASSERT_EQ(values.size(), 1);  // What is no PNG is left out.
  EXPECT_EQ(values[0].tag(), "0-output");
  EXPECT_EQ(values[0].image().width(), 3);
  EXPECT_EQ(values[0].image().height(), 2);
  EXPECT_EQ(values[0].image().encoded_image_string(), PngHeader());

  v1::EpochReport report = ReportOf(3);
  EXPECT_EQ(log.SamplesFile(report).content, "");
  *report.mutable_pictures() = eval.pictures();
  EXPECT_EQ(log.SamplesFile(report).name, "events.out.tfevents.0000000007.imageddpo");
  EXPECT_EQ(log.SamplesFile(report).directory, dir_ / "job/tensorboard/samples");
}

TEST_F(TensorBoardLogTest, EveryFileHasTheSettings) {
  for (const int64_t epoch : {0, 1}) {
    TensorBoardLog log(file_system_, clock_, dir_ / "job", kUpdates,
                       {{"train.learning_rate", "0.0003"},
                        {"device.gradient_checkpointing", "true"},
                        {"model.precision", "\"fp32\""}});
    ASSERT_TRUE(log.ContinueFrom(epoch).ok());
    ASSERT_TRUE(log.WriteEpoch(ReportOf(epoch)).ok());
    const std::vector<Event> events = EventsOf(Files().back());
    const Event& event = events[epoch == 0 ? 1 : 2];  // Behind what purges the steps before.
    ASSERT_EQ(event.summary().value_size(), 1);
    const auto& value = event.summary().value(0);
    EXPECT_EQ(value.tag(), "_hparams_/session_start_info");
    EXPECT_TRUE(value.has_tensor());
    EXPECT_EQ(value.metadata().plugin_data().plugin_name(), "hparams");
    v1::tensorboard::HparamsData data;
    ASSERT_TRUE(data.ParseFromString(value.metadata().plugin_data().content()));
    const auto& hparams = data.session_start_info().hparams();
    EXPECT_EQ(hparams.at("train.learning_rate").number_value(), 0.0003);
    EXPECT_TRUE(hparams.at("device.gradient_checkpointing").bool_value());
    EXPECT_EQ(hparams.at("model.precision").string_value(), "fp32");
  }
  EXPECT_EQ(Files().size(), 2U);
}

TEST_F(TensorBoardLogTest, ANewFilePurgesWhatRunsAgain) {
  TensorBoardLog whole = Log(file_system_);
  ASSERT_TRUE(whole.ContinueFrom(0).ok());
  for (const int64_t epoch : {0, 1, 2}) ASSERT_TRUE(whole.WriteEpoch(ReportOf(epoch)).ok());
  const std::map<std::string, float> expected = Scalars();

  TensorBoardLog again = Log(file_system_);  // In the same second.
  ASSERT_TRUE(again.ContinueFrom(1).ok());
  EXPECT_EQ(Files().size(), 1U);  // Nothing to say yet.
  for (const int64_t epoch : {1, 2}) ASSERT_TRUE(again.WriteEpoch(ReportOf(epoch)).ok());
  ASSERT_EQ(Files().size(), 2U);
  EXPECT_EQ(EventsOf(Files()[1])[1].session_log().status(), SessionLog::START);
  EXPECT_EQ(EventsOf(Files()[1])[1].step(), kUpdates);
  EXPECT_EQ(Scalars(), expected);

  TensorBoardLog shorter = Log(file_system_);
  ASSERT_TRUE(shorter.ContinueFrom(0).ok());
  ASSERT_TRUE(shorter.WriteEpoch(ReportOf(0)).ok());
  EXPECT_EQ(Files().size(), 3U);
  EXPECT_FALSE(Scalars().contains("train/loss at 2"));
}

TEST_F(TensorBoardLogTest, TheFirstFileOfAnOlderJobHasItsRows) {
  dir_.Write("job/metrics.jsonl", RowOf(UpdateOf(0, 0)).dump() + "\n{\"epoch\":0}\n" +
                                      RowOf(UpdateOf(0, 1)).dump() + "\n");
  TensorBoardLog log = Log(file_system_);
  ASSERT_TRUE(log.ContinueFrom(1).ok());
  ASSERT_TRUE(log.WriteEpoch(ReportOf(1)).ok());
  for (int64_t update = 0; update < 4; ++update) {
    EXPECT_TRUE(Scalars().contains(absl::StrCat("train/reward_mean at ", update))) << update;
  }
}

TEST_F(TensorBoardLogTest, WhatAFullDiskRefusedComesWithTheNext) {
  // Folders are made before: the first step that writes is the append.
  dir_.Write("job/tensorboard/other", "");
  FaultyFileSystem probe(FaultyFileSystem::Fault::kNone, 0);
  ASSERT_TRUE(MakeDirectories(probe, dir_ / "job/tensorboard").ok());
  FaultyFileSystem full_once(FaultyFileSystem::Fault::kDiskFull, probe.steps());
  TensorBoardLog log = Log(full_once);
  ASSERT_TRUE(log.ContinueFrom(0).ok());
  const absl::Status status = log.WriteEpoch(ReportOf(0));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensorboard"));
  ASSERT_TRUE(log.WriteEpoch(ReportOf(1)).ok());
  EXPECT_TRUE(Scalars().contains("train/loss at 0"));
  EXPECT_TRUE(Scalars().contains("train/loss at 3"));
}

TEST_F(TensorBoardLogTest, RowsThatAreNoneAreLeftOut) {
  TensorBoardLog log = Log(file_system_);
  ASSERT_TRUE(log.ContinueFrom(0).ok());
  v1::EpochReport report;
  for (const char* row : {"", "nonsense", "[1]", "{\"epoch\":0}", "{\"update\":\"x\"}",
                          "{\"update\":5,\"loss\":null,\"kl\":1e-3}"}) {
    report.add_metrics_rows(row);
  }
  ASSERT_TRUE(log.WriteEpoch(report).ok());
  std::vector<std::string> trained;
  for (const auto& [name, value] : Scalars()) {
    if (name.starts_with("train/")) trained.push_back(name);
  }
  EXPECT_THAT(trained, ElementsAre("train/kl at 5"));
}

}  // namespace
}  // namespace imageddpo
