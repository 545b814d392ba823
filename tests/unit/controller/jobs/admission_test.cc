#include "trainer/controller/jobs/admission.h"

#include "common/base/rejection.h"
#include "common/io/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() {
    dir_.Write("model/unet/config.json", "{}");
    dir_.Write("images/a.JPG", "");
    dir_.Write("held-out/metadata.jsonl", "");
    dir_.Write("classifier.pt", "");
    dir_.Write("lora.safetensors", "");
    cluster_.base_dir = dir_.path();
    cluster_.allowed_roots = {dir_.path()};
    job_.mutable_model()->set_path("model");
    job_.mutable_lora()->set_init_from("lora.safetensors");
    job_.mutable_data()->set_path("images");
    job_.mutable_eval()->set_path("held-out");
    v1::RewardSpec& reward = *job_.add_rewards();
    reward.set_type("classifier");
    reward.set_measure("logit_change");
    reward.set_model("classifier.pt");
    job_.mutable_sample()->set_guidance_scale(1);
  }
  absl::Status Admit() { return AdmitJob(job_, cluster_, /*is_operator=*/true).status(); }

  TempDir dir_;
  ClusterConfig cluster_;
  v1::JobSpec job_;
};

TEST_F(AdmissionTest, FillsInDefaultsAndPaths) {
  const auto admitted = AdmitJob(job_, cluster_, /*is_operator=*/true);
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ(admitted->spec().model().path(), dir_ / "model");
  EXPECT_EQ(admitted->spec().lora().init_from(), dir_ / "lora.safetensors");
  EXPECT_EQ(admitted->spec().data().path(), dir_ / "images");
  EXPECT_EQ(admitted->spec().eval().path(), dir_ / "held-out");
  EXPECT_EQ(admitted->spec().rewards(0).model(), dir_ / "classifier.pt");
  EXPECT_EQ(admitted->spec().num_epochs(), 100);
}

TEST_F(AdmissionTest, AJobOfMoreThan64KiBIsRefused) {
  job_.mutable_data()->set_prompt(std::string(60 << 10, 'x'));
  EXPECT_TRUE(Admit().ok()) << Admit();
  job_.mutable_data()->set_prompt(std::string(64 << 10, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(Admit()));
  EXPECT_THAT(std::string(Admit().message()), HasSubstr("at most 65536 are allowed"));
}

TEST_F(AdmissionTest, LeavesToThePoolWhatMemoryDecides) {
  job_.mutable_sample()->set_batch_size(4);
  job_.mutable_train()->set_batch_size(4);
  const auto chosen = AdmitJob(job_, cluster_, /*is_operator=*/true);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_TRUE(chosen->micro_batch_is_open());
  job_.mutable_device()->set_device_batch_size(2);
  job_.mutable_eval()->set_batch_size(3);
  const auto given = AdmitJob(job_, cluster_, /*is_operator=*/true);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_FALSE(given->micro_batch_is_open());
  EXPECT_EQ(given->spec().device().device_batch_size(), 2);
  EXPECT_EQ(given->spec().eval().batch_size(), 3);
}

TEST_F(AdmissionTest, EachFileMustBeWhatItIsUsedAs) {
  dir_.Write("empty/readme.txt", "");
  const auto refused = [this](std::string* path, const std::string& wrong) {
    const std::string right = std::exchange(*path, wrong);
    const absl::Status status = Admit();
    *path = right;
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong << ": " << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused(job_.mutable_model()->mutable_path(), "images"), HasSubstr("`model.path`"));
  EXPECT_THAT(refused(job_.mutable_model()->mutable_path(), "classifier.pt"),
              HasSubstr("no folder"));
  EXPECT_THAT(refused(job_.mutable_data()->mutable_path(), "empty"), HasSubstr("`data.path`"));
  EXPECT_THAT(refused(job_.mutable_eval()->mutable_path(), "empty"), HasSubstr("metadata.jsonl"));
  EXPECT_THAT(refused(job_.mutable_lora()->mutable_init_from(), "images"),
              HasSubstr("`lora.init_from`"));
  EXPECT_THAT(refused(job_.mutable_rewards(0)->mutable_model(), "images"),
              HasSubstr("`rewards[0].model`"));
  EXPECT_THAT(refused(job_.mutable_rewards(0)->mutable_model(), "gone.pt"), HasSubstr("gone.pt"));
  dir_.Write("adapter/adapter_config.json", "{}");
  dir_.Write("adapter/adapter_model.safetensors", "");
  job_.mutable_lora()->set_init_from("adapter");
  EXPECT_TRUE(Admit().ok()) << Admit();
}

TEST_F(AdmissionTest, ImagesMayLieInSubFoldersOrInAnArray) {
  dir_.Write("classes/dog/deep/1.webp", "");
  dir_.Write("captions/metadata.csv", "");
  dir_.Write("arrays/fog.npy", "");
  for (const char* path : {"classes", "captions", "arrays/fog.npy"}) {
    job_.mutable_data()->set_path(path);
    EXPECT_TRUE(Admit().ok()) << Admit();
  }
  for (const char* path : {"arrays", "classes/dog/deep/1.webp"}) {
    job_.mutable_data()->set_path(path);
    EXPECT_TRUE(absl::IsInvalidArgument(Admit())) << path;
  }
}

TEST_F(AdmissionTest, AllFaultsAtOnce) {
  job_.mutable_model()->set_path("images");
  job_.mutable_data()->set_path("model");
  const std::string message(Admit().message());
  EXPECT_THAT(message, HasSubstr("`model.path`"));
  EXPECT_THAT(message, HasSubstr("`data.path`"));
}

TEST_F(AdmissionTest, FaultsOfSettingsAndOfPathsComeTogether) {
  job_.set_name("two words");
  job_.mutable_data()->set_path("nowhere");
  EXPECT_TRUE(absl::IsInvalidArgument(Admit())) << Admit();
  EXPECT_THAT(std::string(Admit().message()), HasSubstr("`name`"));
  EXPECT_THAT(std::string(Admit().message()), HasSubstr("`data.path`"));
  EXPECT_EQ(RejectionOf(Admit()).violations.size(), 2u) << Admit();
  job_.mutable_data()->set_path("/etc");
  EXPECT_TRUE(absl::IsPermissionDenied(Admit())) << Admit();
  EXPECT_EQ(RejectionOf(Admit()).violations.size(), 2u) << Admit();
}

TEST_F(AdmissionTest, CodeOfSubmittersIsTheOperatorsChoice) {
  const auto admit = [this] { return AdmitJob(job_, cluster_, /*is_operator=*/false); };
  EXPECT_TRUE(absl::IsPermissionDenied(admit().status())) << admit().status();
  cluster_.rewards_allow = {dir_ / "*.pt"};
  EXPECT_TRUE(admit().ok()) << admit().status();
  EXPECT_FALSE(admit()->spec().rewards(0).has_model_sha256());
  cluster_.rewards_allow = {"sha256:" + Sha256Hex("")};  // The file is empty.
  ASSERT_TRUE(admit().ok()) << admit().status();
  EXPECT_EQ(admit()->spec().rewards(0).model_sha256(), Sha256Hex(""));
  dir_.Write("classifier.pt", "another");
  EXPECT_TRUE(absl::IsPermissionDenied(admit().status())) << admit().status();
}

TEST_F(AdmissionTest, PathsOutsideOfTheRootsAreRefused) {
  job_.mutable_data()->set_path("../../etc");
  EXPECT_TRUE(absl::IsPermissionDenied(Admit())) << Admit();
}

TEST(ChooseNumThreads, SharesTheCoresOfAHost) {
  const auto topology = [](int rollout, int trainer, bool colocated) {
    Topology t;
    t.rollout = rollout;
    t.trainer = trainer;
    t.colocated = colocated;
    return t;
  };
  EXPECT_EQ(ChooseNumThreads(topology(1, 1, true), 2, 1), 2);
  EXPECT_EQ(ChooseNumThreads(topology(1, 1, false), 2, 2), 2);  // They take turns.
  EXPECT_EQ(ChooseNumThreads(topology(3, 1, false), 16, 4), 5);
  EXPECT_EQ(ChooseNumThreads(topology(4, 4, true), 16, 4), 4);
  EXPECT_EQ(ChooseNumThreads(topology(8, 8, true), 4, 8), 1);
  EXPECT_EQ(ChooseNumThreads(topology(16, 16, true), 64, 8), 8);  // Two hosts of 8 workers.
}

TEST(RequestSha256, IsTheRequests) {
  v1::JobSpec a, b;
  a.set_name("x");
  b.set_name("x");
  EXPECT_EQ(RequestSha256(a), RequestSha256(b));
  b.mutable_train()->set_learning_rate(0);  // Given as zero is not the same as not given.
  EXPECT_NE(RequestSha256(a), RequestSha256(b));
}

}  // namespace
}  // namespace imageddpo
