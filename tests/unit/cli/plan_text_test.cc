#include "deploy/imageddpo/text/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Prediction Some(const Topology& topology, double seconds) {
  Prediction prediction{.topology = topology, .gradient_shards = 4, .samples_per_epoch = 100};
  prediction.seconds.steps = seconds / 2;
  prediction.seconds.replay = seconds / 2;
  prediction.epoch_seconds = seconds;
  prediction.first_pass_encode = 1.5;
  prediction.rollout_memory.weights = 3e9;
  prediction.trainer_memory.weights = 2e9;
  prediction.saturates = "training (50%)";
  return prediction;
}

std::vector<Prediction> Two() {
  std::vector<Prediction> two = {Some({.rollout = 3, .trainer = 1}, 4),
                                 Some({.rollout = 2, .trainer = 2, .colocated = true}, 1000)};
  two[1].fits = false;
  two[1].idle_ranks = 2;
  return two;
}

TEST(PlanText, BestFirstWithWhereItsTimeAndMemoryGo) {
  const std::string text = PlanText(Two());
  EXPECT_THAT(text, HasSubstr("rollout 3, trainer 1  replay      4s        25  3.00 GB / 2.00 GB"));
  EXPECT_THAT(text, HasSubstr("does not fit the memory; 2 ranks idle"));
  EXPECT_THAT(text, HasSubstr("rollout: UNet steps"));
  EXPECT_THAT(text, HasSubstr("50.0%"));
  EXPECT_THAT(text, Not(HasSubstr("rollout: rewards")));  // They take no time.
  EXPECT_THAT(text, HasSubstr("plus 1.5s an epoch until every image was seen once"));
  EXPECT_LT(text.find("rollout 3"), text.find("colocated 2"));
}

TEST(PlanJson, HasEveryPart) {
  const auto json = nlohmann::json::parse(PlanJson(Two()));
  ASSERT_EQ(json["predictions"].size(), 2u);
  const auto& first = json["predictions"][0];
  EXPECT_EQ(first["topology"], (nlohmann::json{{"rollout", 3}, {"trainer", 1}}));
  EXPECT_EQ(first["epoch_seconds"], 4.0);
  EXPECT_EQ(first["images_per_second"], 25.0);
  EXPECT_EQ(first["seconds"]["steps"], 2.0);
  EXPECT_EQ(first["trainer_memory"]["total_bytes"], 2e9);
  EXPECT_EQ(json["predictions"][1]["topology"], (nlohmann::json{{"colocated", 2}}));
  EXPECT_EQ(json["predictions"][1]["fits"], false);
}

TEST(PlanText, SaysWhatAutoTakesAndWhatASinglePassWouldGain) {
  std::vector<Prediction> two = Two();
  two[1].fits = true;
  PlanNotes notes{.chosen = two[1].topology, .single_pass = two[1]};
  notes.single_pass->epoch_seconds = 2;
  const std::string text = PlanText(two, notes);
  EXPECT_THAT(text, HasSubstr("`topology: auto` takes colocated 2: an epoch is predicted to take "
                              "1000 s; the best is rollout 3, trainer 1 with 4 s\n"));
  EXPECT_THAT(text, HasSubstr("`topology: {colocated: 2}` in the job file would train in a single "
                              "pass: an epoch of 2s"));
  const auto json = nlohmann::json::parse(PlanJson(two, notes));
  EXPECT_EQ(json["auto"]["topology"], (nlohmann::json{{"colocated", 2}}));
  EXPECT_THAT(json["auto"]["why"].get<std::string>(), HasSubstr("the best is rollout 3"));
  EXPECT_EQ(json["single_pass"]["epoch_seconds"], 2.0);
  EXPECT_FALSE(nlohmann::json::parse(PlanJson(two)).contains("auto"));
}

TEST(ScalingText, SharesOfTheFirstRanksSpeed) {
  const std::string text = ScalingText({Some({.rollout = 1, .trainer = 1, .colocated = true}, 10),
                                        Some({.rollout = 3, .trainer = 1}, 5)});
  EXPECT_THAT(text, HasSubstr("100%"));
  EXPECT_THAT(text, HasSubstr("50%"));  // Four ranks, twice the speed.
}

TEST(ScalingSvg, DrawsACurveAndEscapesItsName) {
  const std::vector<Prediction> curve = {Some({.rollout = 1, .trainer = 1, .colocated = true}, 10),
                                         Some({.rollout = 9, .trainer = 1}, 2)};
  const std::string svg = ScalingSvg("a < b", {{"x & y", curve}, {"none", {}}});
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("x &amp; y"));
  EXPECT_THAT(svg, HasSubstr("<polyline points=\"70.0,390.0 "));  // The first point, at the corner.
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(ScalingSvg("empty", {}), "");
}

}  // namespace
}  // namespace imageddpo
