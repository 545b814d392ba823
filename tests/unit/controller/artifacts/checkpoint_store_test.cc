#include "trainer/controller/artifacts/checkpoint_store.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/full_disk.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/controller/jobs/checkpoints.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class CheckpointStoreTest : public testing::Test {
 protected:
  CheckpointStoreTest() : store_(file_system_, dir_ / "checkpoints") {
    EXPECT_TRUE(store_.Open().ok());
  }

  void Save(int64_t epoch, const std::string& variant = "") {
    const auto path = store_.Save(CheckpointOf(epoch, variant));
    ASSERT_TRUE(path.ok()) << path.status();
  }
  /// A store that has verified nothing yet, as after a restart.
  CheckpointStore Reopened() {
    CheckpointStore store(file_system_, dir_ / "checkpoints");
    EXPECT_TRUE(store.Open().ok());
    return store;
  }
  CheckpointStore::Found Newest() {
    auto found = Reopened().Newest();
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *std::move(found) : CheckpointStore::Found();
  }

  TempDir dir_;
  PosixFileSystem file_system_;
  CheckpointStore store_;
};

TEST_F(CheckpointStoreTest, NothingIsThereAtFirst) {
  EXPECT_FALSE(Newest().checkpoint.has_value());
  EXPECT_THAT(Newest().warnings, IsEmpty());
  EXPECT_TRUE(store_.Prune(3).ok());
}

TEST_F(CheckpointStoreTest, GoesBackToAnEarlierOne) {
  for (const int64_t epoch : {1, 4, 5, 6}) Save(epoch);
  std::ofstream(dir_ / "checkpoints/epoch-000005/state.json") << "damaged";
  CheckpointStore store = Reopened();
  const absl::Status missing = store.GoBackTo(3);
  EXPECT_TRUE(absl::IsFailedPrecondition(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("those that there are: 1, 4, 6"));
  EXPECT_THAT(std::string(store.GoBackTo(5).message()),
              HasSubstr("the checkpoint of epoch 5 is damaged"));
  EXPECT_THAT(*store.Epochs(), ElementsAre(1, 4, 5, 6));
  ASSERT_TRUE(store.GoBackTo(4).ok());
  EXPECT_THAT(*store.Epochs(), ElementsAre(1, 4));
  EXPECT_EQ(Newest().path, dir_ / "checkpoints/epoch-000004");
  EXPECT_TRUE(store.GoBackTo(4).ok());
}

TEST_F(CheckpointStoreTest, GivesBackWhatWasSaved) {
  Save(0);
  Save(12);
  const CheckpointStore::Found found = Newest();
  ASSERT_TRUE(found.checkpoint.has_value());
  EXPECT_EQ(found.checkpoint->SerializeAsString(), CheckpointOf(12).SerializeAsString());
  EXPECT_EQ(found.path, dir_ / "checkpoints/epoch-000012");
  EXPECT_THAT(found.warnings, IsEmpty());
  EXPECT_EQ(dir_.Read("checkpoints/epoch-000012/pytorch_lora_weights.safetensors"),
            CheckpointOf(12).lora());
  EXPECT_EQ(dir_.Read("checkpoints/epoch-000012/optimizer.safetensors"),
            CheckpointOf(12).optimizer());
  EXPECT_EQ(dir_.Read("checkpoints/epoch-000012/state.json"), CheckpointOf(12).state());
  EXPECT_EQ(CheckpointStore::LoraFileIn(found.path),
            dir_ / "checkpoints/epoch-000012/pytorch_lora_weights.safetensors");
}

TEST_F(CheckpointStoreTest, HasTheAverageOfAJobThatHasOne) {
  v1::Checkpoint checkpoint = CheckpointOf(3);
  checkpoint.set_ema_lora("an average");
  ASSERT_TRUE(store_.Save(checkpoint).ok());
  EXPECT_EQ(dir_.Read("checkpoints/epoch-000003/lora_ema.safetensors"), "an average");
  EXPECT_EQ(Newest().checkpoint->SerializeAsString(), checkpoint.SerializeAsString());
  dir_.Write("checkpoints/epoch-000003/lora_ema.safetensors", "another");
  const CheckpointStore::Found damaged = Newest();
  EXPECT_FALSE(damaged.checkpoint.has_value());
  EXPECT_THAT(damaged.warnings, ElementsAre(HasSubstr("lora_ema.safetensors")));
}

TEST_F(CheckpointStoreTest, OrdersByNumberNotByName) {
  Save(999999);
  Save(1000000);
  Save(5);
  dir_.Write("checkpoints/epoch-7/MANIFEST", "not ours: the name is not padded");
  dir_.Write("checkpoints/notes.txt", "");
  EXPECT_THAT(store_.Epochs().value(), ElementsAre(5, 999999, 1000000));
  EXPECT_EQ(Newest().checkpoint->epoch(), 1000000);
}

TEST_F(CheckpointStoreTest, RefusesANegativeEpoch) {
  EXPECT_TRUE(absl::IsInvalidArgument(store_.Save(CheckpointOf(-1)).status()));
}

TEST_F(CheckpointStoreTest, TheSameAgainChangesNothing) {
  Save(4);
  const auto before = std::filesystem::last_write_time(dir_ / "checkpoints/epoch-000004/MANIFEST");
  Save(4);
  EXPECT_EQ(std::filesystem::last_write_time(dir_ / "checkpoints/epoch-000004/MANIFEST"), before);
  Save(4, "other");
  EXPECT_EQ(Newest().checkpoint->lora(), CheckpointOf(4, "other").lora());
}

// Each kind of damage to each file of the newest checkpoint.
struct Damage {
  const char* name;
  void (*apply)(const std::string& path);
};

void Truncate(const std::string& path) {
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 2);
}
void Empty(const std::string& path) { std::filesystem::resize_file(path, 0); }
void Remove(const std::string& path) { std::filesystem::remove(path); }
void Lengthen(const std::string& path) { std::ofstream(path, std::ios::app) << 'x'; }
void FlipABit(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  // In MANIFEST the middle lies within a hash.
  const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(path) / 2);
  file.seekg(middle);
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(middle);
  file.put(byte);
}

class DamagedCheckpointTest : public CheckpointStoreTest,
                              public testing::WithParamInterface<std::tuple<const char*, Damage>> {
};

TEST_P(DamagedCheckpointTest, FallsBackToTheOneBeforeAndSaysWhatIsWrong) {
  Save(10);
  Save(20);
  const auto& [file, damage] = GetParam();
  damage.apply(dir_ / "checkpoints/epoch-000020/" + file);

  const CheckpointStore::Found found = Newest();
  ASSERT_TRUE(found.checkpoint.has_value());
  EXPECT_EQ(found.checkpoint->epoch(), 10);
  ASSERT_THAT(found.warnings, SizeIs(1));
  EXPECT_THAT(found.warnings[0], HasSubstr("the checkpoint of epoch 20 is damaged"));
  EXPECT_THAT(found.warnings[0], HasSubstr("epoch-000020"));
  EXPECT_THAT(found.warnings[0], HasSubstr(file));

  // It is made again when training gets there again.
  Save(20);
  EXPECT_EQ(Newest().checkpoint->epoch(), 20);
  EXPECT_THAT(Newest().warnings, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    EachFile, DamagedCheckpointTest,
    testing::Combine(testing::Values("pytorch_lora_weights.safetensors", "optimizer.safetensors",
                                     "state.json", "MANIFEST"),
                     testing::Values(Damage{"Truncated", Truncate}, Damage{"Empty", Empty},
                                     Damage{"Missing", Remove}, Damage{"FlippedBit", FlipABit},
                                     Damage{"Longer", Lengthen})),
    [](const auto& info) {
      const std::string file = std::get<0>(info.param);
      return file.substr(0, file.find_first_of("._")) + std::get<1>(info.param).name;
    });

TEST_F(CheckpointStoreTest, GoesAsFarBackAsItMust) {
  for (const int64_t epoch : {1, 2, 3}) Save(epoch);
  Remove(dir_ / "checkpoints/epoch-000003/MANIFEST");
  Truncate(dir_ / "checkpoints/epoch-000002/state.json");
  EXPECT_EQ(Newest().checkpoint->epoch(), 1);
  EXPECT_THAT(Newest().warnings, SizeIs(2));
  Remove(dir_ / "checkpoints/epoch-000001/state.json");
  EXPECT_FALSE(Newest().checkpoint.has_value());
  EXPECT_THAT(Newest().warnings, SizeIs(3));
}

TEST_F(CheckpointStoreTest, ManifestOfAnotherEpochIsNotBelieved) {
  Save(1);
  std::filesystem::rename(dir_ / "checkpoints/epoch-000001", dir_ / "checkpoints/epoch-000009");
  EXPECT_FALSE(Newest().checkpoint.has_value());
}

TEST_F(CheckpointStoreTest, PruneKeepsTheNewest) {
  for (const int64_t epoch : {0, 1, 2, 3, 4}) Save(epoch);
  ASSERT_TRUE(store_.Prune(0).ok());
  EXPECT_THAT(store_.Epochs().value(), ElementsAre(0, 1, 2, 3, 4));
  ASSERT_TRUE(Reopened().Prune(3).ok());
  EXPECT_THAT(store_.Epochs().value(), ElementsAre(2, 3, 4));
  ASSERT_TRUE(store_.Prune(1).ok());
  EXPECT_THAT(store_.Epochs().value(), ElementsAre(4));
  EXPECT_THAT(file_system_.List(dir_ / "checkpoints").value(), ElementsAre("epoch-000004"));
}

TEST_F(CheckpointStoreTest, PruneCountsCompleteOnesOnly) {
  for (const int64_t epoch : {1, 2, 3, 4}) Save(epoch);
  Truncate(dir_ / "checkpoints/epoch-000004/state.json");
  Remove(dir_ / "checkpoints/epoch-000002/MANIFEST");
  ASSERT_TRUE(Reopened().Prune(1).ok());
  // 4 is damaged: 3 is the newest complete one and stays; what is older goes, damaged or not.
  EXPECT_THAT(store_.Epochs().value(), ElementsAre(3, 4));
  EXPECT_EQ(Newest().checkpoint->epoch(), 3);
}

TEST_F(CheckpointStoreTest, OpenRemovesWhatACrashLeft) {
  Save(1);
  dir_.Write("checkpoints/.epoch-000002.tmp-77-abc/state.json", "half");
  dir_.Write("checkpoints/.epoch-1.tmp-pruned/state.json", "gone");
  Reopened();
  EXPECT_FALSE(std::filesystem::exists(dir_ / "checkpoints/.epoch-000002.tmp-77-abc"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "checkpoints/.epoch-1.tmp-pruned"));
  EXPECT_EQ(Newest().checkpoint->epoch(), 1);
}

TEST_F(CheckpointStoreTest, TheBestStaysWhateverIsPruned) {
  std::vector<std::string> warnings;
  EXPECT_FALSE(store_.LoadBest(BestMode::kMax, &warnings)->has_value());
  for (const int64_t epoch : {1, 2, 3}) Save(epoch);
  const auto first = store_.SaveBest({.epoch = 1, .value = 0.1}, "lora of 1");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*first, dir_ / "checkpoints/best-epoch-000001/pytorch_lora_weights.safetensors");
  ASSERT_TRUE(store_.SaveBest({.epoch = 2, .value = 0.30000000000000004}, "lora of 2").ok());
  ASSERT_TRUE(store_.Prune(1).ok());
  EXPECT_THAT(file_system_.List(dir_ / "checkpoints").value(),
              ElementsAre("best-epoch-000002", "epoch-000003"));
  const auto found = Reopened().LoadBest(BestMode::kMax, &warnings);
  ASSERT_TRUE(found.ok() && found->has_value()) << found.status();
  EXPECT_EQ((*found)->epoch, 2);
  EXPECT_EQ((*found)->value, 0.30000000000000004) << "the same bits";
  EXPECT_EQ(dir_.Read("checkpoints/best-epoch-000002/pytorch_lora_weights.safetensors"),
            "lora of 2");
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_EQ(Newest().checkpoint->epoch(), 3) << "the best is no checkpoint to go on from";
}

TEST_F(CheckpointStoreTest, OfTwoThatACrashLeftTheBetterIsTheBest) {
  ASSERT_TRUE(store_.SaveBest({.epoch = 4, .value = 2}, "lora of 4").ok());
  std::filesystem::rename(dir_ / "checkpoints/best-epoch-000004", dir_ / "aside");
  ASSERT_TRUE(store_.SaveBest({.epoch = 2, .value = 1}, "lora of 2").ok());
  std::filesystem::rename(dir_ / "aside", dir_ / "checkpoints/best-epoch-000004");
  std::vector<std::string> warnings;
  EXPECT_EQ((*store_.LoadBest(BestMode::kMax, &warnings))->epoch, 4);
  EXPECT_EQ((*store_.LoadBest(BestMode::kMin, &warnings))->epoch, 2);
  EXPECT_THAT(warnings, IsEmpty());
  dir_.Write("checkpoints/best-epoch-000004/pytorch_lora_weights.safetensors", "other");
  EXPECT_EQ((*store_.LoadBest(BestMode::kMax, &warnings))->epoch, 2);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("best-epoch-000004 is damaged")));
}

TEST_F(CheckpointStoreTest, OfEqualOnesTheEarlierIsBetterAndNanNeverIs) {
  const auto is_better = CheckpointStore::IsBetter;
  const CheckpointStore::Best best{.epoch = 1, .value = 2};
  EXPECT_TRUE(is_better(3, best, BestMode::kMax));
  EXPECT_FALSE(is_better(2, best, BestMode::kMax));
  EXPECT_FALSE(is_better(2, best, BestMode::kMin));
  EXPECT_TRUE(is_better(1, best, BestMode::kMin));
  EXPECT_TRUE(is_better(-5, std::nullopt, BestMode::kMax));
  const double nan = std::nan("");
  EXPECT_FALSE(is_better(nan, std::nullopt, BestMode::kMin));
  EXPECT_FALSE(is_better(nan, best, BestMode::kMax));
}

TEST_F(CheckpointStoreTest, OneThatCannotBeReadNowIsAnErrorAndNotPassedOver) {
  for (const int64_t epoch : {1, 2, 3}) Save(epoch);
  FullDisk disk;
  disk.UnreadableFor("epoch-000003/optimizer");
  CheckpointStore store(disk, dir_ / "checkpoints");
  const absl::Status status = store.Newest().status();
  EXPECT_EQ(FaultOf(status), (Fault{Whose::kHost, /*passes=*/true})) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch-000003"));
  EXPECT_FALSE(store.Prune(1).ok());
  EXPECT_FALSE(store.GoBackTo(3).ok());
  disk.UnreadableFor("");
  EXPECT_THAT(*store.Epochs(), ElementsAre(1, 2, 3));
  const auto found = store.Newest();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->checkpoint->epoch(), 3);
  EXPECT_THAT(found->warnings, IsEmpty());
}

}  // namespace
}  // namespace imageddpo
