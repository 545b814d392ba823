#include "common/config/job_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>

#include "common/base/rejection.h"
#include "common/config/cluster_config.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class JobPathsTest : public ::testing::Test {
 protected:
  TempDir dir_;
  const fs::path folder_ = dir_.path();
};

TEST_F(JobPathsTest, MustExistBelowTheRoots) {
  fs::create_directories(folder_ / "srv/models/sd");
  fs::create_directories(folder_ / "srv/models-private");
  fs::create_directory_symlink(folder_ / "srv/models-private", folder_ / "srv/models/link");
  fs::create_directory_symlink(folder_ / "srv/models/sd", folder_ / "srv/models/inner");
  ClusterConfig config;
  config.base_dir = (folder_ / "srv").string();
  config.allowed_roots = {"models/"};
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());

  EXPECT_EQ(*ResolveJobPath(config, "model.path", "models/sd"),
            (folder_ / "srv/models/sd").string());
  EXPECT_EQ(*ResolveJobPath(config, "model.path", "models"), (folder_ / "srv/models").string());
  EXPECT_EQ(*ResolveJobPath(config, "model.path", "models/inner"),
            (folder_ / "srv/models/sd").string());
  EXPECT_EQ(*ResolveJobPath(config, "model.path", (folder_ / "srv/models/./sd").string()),
            (folder_ / "srv/models/sd").string());
  for (const char* outside :
       {"models-private", "models/../models-private", "models/link", "/etc/passwd",
        "../../../../etc/passwd", "models/link/none", "/none-at-all"}) {
    const auto path = ResolveJobPath(config, "data.path", outside);
    EXPECT_EQ(path.status().code(), absl::StatusCode::kPermissionDenied) << outside;
    EXPECT_THAT(std::string(path.status().message()), HasSubstr("`data.path`"));
  }
  const auto missing = ResolveJobPath(config, "data.path", "models/none");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(missing.status().message()),
              HasSubstr((folder_ / "srv/models/none").string() + " does not exist"));
}

TEST_F(JobPathsTest, LorasOfJobsMayBeReadWhereverTheServiceKeepsThem) {
  fs::create_directories(folder_ / "srv");
  fs::create_directories(folder_ / "out/jobs/job-000001");
  fs::create_directories(folder_ / "out/access");
  ClusterConfig config;
  config.base_dir = (folder_ / "srv").string();
  config.data_dir = (folder_ / "out").string();
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  const std::string job = (folder_ / "out/jobs/job-000001").string();
  EXPECT_EQ(*ResolveJobPath(config, "lora.init_from", job), job);
  const std::pair<std::string, std::string> refused[] = {
      {"data.path", job},
      {"lora.init_from", (folder_ / "out/access").string()},
      {"lora.init_from", job + "/../../access"}};
  for (const auto& [setting, path] : refused) {
    EXPECT_EQ(ResolveJobPath(config, setting, path).status().code(),
              absl::StatusCode::kPermissionDenied)
        << setting << " " << path;
  }
}

TEST_F(JobPathsTest, AllPathsOfAJobAreResolvedOrNone) {
  for (const char* name : {"m", "d", "e", "l", "c", "ca", "token"})
    fs::create_directories(folder_ / name);
  ClusterConfig config;
  config.base_dir = folder_.string();
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  v1::JobSpec job;
  job.mutable_model()->set_path("m");
  job.mutable_data()->set_path("d");
  job.mutable_eval()->set_path("e");
  job.mutable_eval()->add_files("c");
  job.mutable_lora()->set_init_from("l");
  job.add_rewards()->set_type("jpeg");
  job.add_rewards()->set_model("c");
  job.mutable_rewards(0)->set_tls_ca_file("ca");
  job.mutable_rewards(0)->set_token_file("token");
  v1::JobSpec broken = job;
  broken.mutable_data()->set_path("/etc");
  broken.mutable_rewards(1)->set_model("nope");
  broken.mutable_eval()->add_files("/etc/passwd");
  ASSERT_TRUE(ResolveJobPaths(config, &job).ok());
  EXPECT_EQ(job.model().path(), (folder_ / "m").string());
  EXPECT_EQ(job.data().path(), (folder_ / "d").string());
  EXPECT_EQ(job.eval().path(), (folder_ / "e").string());
  EXPECT_EQ(job.eval().files(0), (folder_ / "c").string());
  EXPECT_EQ(job.lora().init_from(), (folder_ / "l").string());
  EXPECT_EQ(job.rewards(1).model(), (folder_ / "c").string());
  EXPECT_FALSE(job.rewards(0).has_model());
  EXPECT_EQ(job.rewards(0).tls_ca_file(), (folder_ / "ca").string());
  EXPECT_EQ(job.rewards(0).token_file(), (folder_ / "token").string());

  const absl::Status status = ResolveJobPaths(config, &broken);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("`data.path`"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("`rewards[1].model`"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("`eval.files[1]`"));
  EXPECT_EQ(broken.model().path(), "m");
}

TEST_F(JobPathsTest, AreCheckedAgainWhereTheyAreOpened) {
  fs::create_directories(folder_ / "srv/sd/unet");
  fs::create_directories(folder_ / "srv/images");
  fs::create_directories(folder_ / "private");
  ClusterConfig config;
  config.base_dir = (folder_ / "srv").string();
  ASSERT_TRUE(ResolveClusterConfig(&config).ok());
  v1::JobSpec job;
  job.mutable_model()->set_path("sd");
  job.mutable_data()->set_path("images");
  ASSERT_TRUE(ResolveJobPaths(config, &job).ok());
  EXPECT_TRUE(CheckJobPaths(config, job).ok());
  // A folder becomes a link while the job waits.
  fs::rename(folder_ / "srv/images", folder_ / "srv/moved");
  fs::create_directory_symlink(folder_ / "private", folder_ / "srv/images");
  const absl::Status swapped = CheckJobPaths(config, job);
  EXPECT_TRUE(absl::IsPermissionDenied(swapped)) << swapped;
  EXPECT_THAT(std::string(swapped.message()), HasSubstr("`data.path`"));
  fs::remove(folder_ / "srv/images");
  EXPECT_TRUE(CheckJobPaths(config, job).ok()) << "what is missing is for who opens it";
  // Within the roots a link may lead anywhere, also one below the model's folder; out of them none.
  fs::create_symlink(folder_ / "srv/moved", folder_ / "srv/sd/unet/config.json");
  EXPECT_TRUE(CheckJobPaths(config, job).ok());
  fs::create_directory_symlink(folder_ / "srv/sd", folder_ / "srv/sd/unet/circle");
  fs::create_directory_symlink(folder_ / "srv/sd", folder_ / "srv/sd/circle");
  EXPECT_TRUE(CheckJobPaths(config, job).ok());
  fs::create_directory_symlink(folder_ / "srv/moved", folder_ / "srv/sd/vae");
  fs::create_symlink(folder_ / "private", folder_ / "srv/moved/away");
  EXPECT_THAT(std::string(CheckJobPaths(config, job).message()),
              HasSubstr("sd/vae/away is a link that leads out of"));
  fs::remove(folder_ / "srv/moved/away");
  EXPECT_TRUE(CheckJobPaths(config, job).ok());
  fs::create_symlink("../../../private/weights", folder_ / "srv/sd/unet/weights.safetensors");
  const absl::Status inside = CheckJobPaths(config, job);
  EXPECT_TRUE(absl::IsPermissionDenied(inside)) << inside;
  EXPECT_THAT(std::string(inside.message()),
              HasSubstr("sd/unet/weights.safetensors is a link that leads out of"));
  EXPECT_EQ(RejectionOf(inside).reason, "PATH_NOT_ALLOWED");
}

}  // namespace
}  // namespace imageddpo
