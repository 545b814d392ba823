#include "common/plan/costs.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// Every stage measured at one point.
Costs SomeCosts() {
  Costs costs;
  costs.device = "cpu";
  costs.precision = "fp32";
  costs.model = "models/some";
  costs.num_threads = 2;
  double seconds = 0.5;
  for (const NamedStage& stage : CostStages()) {
    costs.*stage.curve = CostCurve({{100, seconds}, {300, 2 * seconds}});
    seconds *= 2;
  }
  return costs;
}

std::string Message(const std::string& text) {
  return std::string(Costs::FromJson(text, "costs.json").status().message());
}

TEST(CostCurve, IsAStraightLineBetweenItsPointsAndInProportionBeyondThem) {
  const CostCurve curve({{300, 6}, {100, 3}});
  EXPECT_DOUBLE_EQ(curve.Seconds(100), 3);
  EXPECT_DOUBLE_EQ(curve.Seconds(200), 4.5);
  EXPECT_DOUBLE_EQ(curve.Seconds(50), 2.25);  // Extrapolated: 1.5 s whatever the work.
  EXPECT_DOUBLE_EQ(curve.Seconds(600), 12);
  EXPECT_DOUBLE_EQ(curve.Seconds(0), 0);
}

TEST(CostCurve, NeverMakesLittleWorkFreeOrNegative) {
  const CostCurve steep({{100, 1}, {200, 4}});  // The line is negative at work 0.
  EXPECT_DOUBLE_EQ(steep.Seconds(10), 0.1);
  const CostCurve falling({{100, 4}, {200, 3}});  // A measurement that was disturbed.
  EXPECT_DOUBLE_EQ(falling.Seconds(50), 2);
  const CostCurve one({{100, 1}});
  EXPECT_DOUBLE_EQ(one.Seconds(50), 0.5);
  EXPECT_DOUBLE_EQ(one.Seconds(400), 4);
}

TEST(CostCurve, AveragesPointsOfEqualWork) {
  const CostCurve curve({{100, 1}, {100, 3}});
  EXPECT_DOUBLE_EQ(curve.Seconds(100), 2);
  EXPECT_EQ(curve.points().size(), 1u);
}

TEST(LinkCosts, LatencyOnceEachMessageAndTheBytes) {
  const LinkCosts link{
      .latency_seconds = 1e-3, .message_seconds = 1e-5, .bytes_per_second = 1e9, .measured = true};
  EXPECT_DOUBLE_EQ(link.Seconds(10, 2e6), 1e-3 + 10 * 1e-5 + 2e-3);
  EXPECT_DOUBLE_EQ(link.Seconds(0, 0), 0);
}

TEST(Costs, AFileReadsBackAsItWasWritten) {
  Costs costs = SomeCosts();
  costs.link.measured = true;
  const auto read = Costs::FromJson(costs.ToJson(), "costs.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->ToJson(), costs.ToJson());
}

TEST(Costs, WhatIsWrongIsNamedWithTheRemedy) {
  for (const auto& [text, what] : {std::pair<std::string, std::string>{"[1]", "no JSON object"},
                                   {"{}", "its format is not 1"},
                                   {"{\"format\": 1}", "it has no stages"}}) {
    EXPECT_THAT(Message(text), HasSubstr("costs.json: "));
    EXPECT_THAT(Message(text), HasSubstr(what));
    EXPECT_THAT(Message(text), HasSubstr("imageddpo-trace costs --job"));
  }
  std::string text = SomeCosts().ToJson();
  const size_t at = text.find("\"replay_step\"");
  std::string renamed = text;
  EXPECT_THAT(Message(renamed.replace(at, 13, "\"replay_stop\"")),
              HasSubstr("stages.replay_step has no measurement"));
  const size_t work = text.find("\"work\": 100");
  EXPECT_THAT(Message(text.replace(work, 11, "\"work\": -10")),
              HasSubstr("without a positive work and seconds"));
}

TEST(MeanCosts, OfTwoMeasurementsOfTheSamePoints) {
  Costs before = SomeCosts(), after = SomeCosts();
  after.decode = CostCurve({{100, 100}, {300, 200}});
  const double expected = (before.decode.Seconds(100) + 100) / 2;
  const auto mean = MeanCosts(before, after);
  ASSERT_TRUE(mean.ok());
  EXPECT_DOUBLE_EQ(mean->decode.Seconds(100), expected);
  EXPECT_DOUBLE_EQ(mean->draw.Seconds(100), before.draw.Seconds(100));
  after.decode = CostCurve({{100, 100}});
  EXPECT_THAT(MeanCosts(before, after).status().message(), HasSubstr("stage decode"));
}

TEST(FasterCosts, EveryStageButNotTheLink) {
  const Costs slow = SomeCosts(), fast = FasterCosts(slow, 10);
  for (const NamedStage& stage : CostStages()) {
    EXPECT_DOUBLE_EQ((fast.*stage.curve).Seconds(250), (slow.*stage.curve).Seconds(250) / 10);
  }
  EXPECT_DOUBLE_EQ(fast.link.Seconds(3, 1e6), slow.link.Seconds(3, 1e6));
}

}  // namespace
}  // namespace imageddpo
