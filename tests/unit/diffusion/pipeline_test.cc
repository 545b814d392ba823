#include "common/diffusion/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

/// The demo's model, with one part's config changed; weights are linked.
class PipelineTest : public testing::Test {
 protected:
  void Change(const std::string& part, const std::string& file, const nlohmann::json& changes) {
    const fs::path demo = fs::absolute("deploy/demo/tiny-sd");
    for (const char* name : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) {
      const fs::path target = fs::path(dir_.path()) / name;
      if (name != part && !fs::exists(target)) fs::create_directory_symlink(demo / name, target);
    }
    std::ifstream text(demo / part / file);
    nlohmann::json config = nlohmann::json::parse(text);
    config.update(changes);
    dir_.Write(part + "/" + file, config.dump());
    for (const fs::directory_entry& entry : fs::directory_iterator(demo / part)) {
      if (entry.path().filename() == file) continue;
      fs::create_symlink(entry.path(), fs::path(dir_.path()) / part / entry.path().filename());
    }
  }

  std::vector<std::string> Warnings() {
    std::vector<std::string> warnings;
    const absl::StatusOr<Pipeline> pipeline = Pipeline::Load(dir_.path(), {}, {}, &warnings);
    EXPECT_TRUE(pipeline.ok()) << pipeline.status();
    return warnings;
  }

  TempDir dir_;
};

TEST_F(PipelineTest, GathersTheWarningsOfTheScheduler) {
  Change("scheduler", "scheduler_config.json", {{"clip_sample", true}, {"solver_order", 2}});
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("clip_sample = true"), HasSubstr("solver_order")));
}

TEST_F(PipelineTest, GathersTheWarningsOfTheUnet) {
  Change("unet", "config.json", {{"norm_eps", nullptr}, {"decay", 0.9999}});
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("unet/config.json: norm_eps = null")));
}

TEST_F(PipelineTest, GathersTheWarningsOfTheVae) {
  Change("vae", "config.json", {{"act_fn", nullptr}});
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("vae/config.json: act_fn = null")));
}

TEST_F(PipelineTest, GathersTheWarningsOfTheTextEncoder) {
  Change("text_encoder", "config.json", {{"layer_norm_eps", nullptr}});
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("text_encoder/config.json: layer_norm_eps")));
}

TEST_F(PipelineTest, TokenizerFilesMayHaveNullsToo) {
  Change("tokenizer", "tokenizer_config.json",
         {{"pad_token", nullptr}, {"do_lower_case", nullptr}, {"tokenizer_class", nullptr}});
  EXPECT_THAT(Warnings(), IsEmpty());
}

}  // namespace
}  // namespace imageddpo
