#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "deploy/imageddpo/report/document.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(PlotSvg, DrawsALineAndItsAxes) {
  const std::string svg = PlotSvg({.title = "a < b",
                                   .x_label = "epochs",
                                   .curves = {{.name = "x", .points = {{0, 0}, {10, 1}}}}});
  EXPECT_THAT(svg, HasSubstr("aria-label=\"a &lt; b\""));
  // Corner to corner of 62 to 546 and 238 to 14.
  EXPECT_THAT(svg, HasSubstr("<polyline class=\"curve c0\" points=\"62.0,238.0 546.0,14.0\"/>"));
  for (const char* tick : {">0.2</text>", ">0.8</text>", ">2</text>", ">10</text>"}) {
    EXPECT_THAT(svg, HasSubstr(tick));
  }
}

TEST(PlotSvg, LeavesGapsWhereThereIsNoNumber) {
  const std::string svg = PlotSvg(
      {.title = "t",
       .x_label = "x",
       .curves = {{.name = "a", .points = {{0, 0}, {1, 1}, {2, NAN}, {3, INFINITY}, {4, 1}}},
                  {.name = "b", .points = {{0, NAN}}}}});
  EXPECT_THAT(svg, HasSubstr("<polyline class=\"curve c0\""));
  EXPECT_THAT(svg, HasSubstr("<circle class=\"dot c0\" cx=\"546.0\""));
  EXPECT_THAT(svg, HasSubstr(">b</text>"));  // The legend.
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(PlotSvg, HasErrorBarsWithinIt) {
  const std::string svg =
      PlotSvg({.title = "t",
               .x_label = "x",
               .curves = {{.name = "a", .points = {{0, 1}, {10, 1}}, .errors = {0, 1}}}});
  // y from 0 to 2, so that 1 is in the middle of 238 and 14.
  EXPECT_THAT(svg, HasSubstr("points=\"62.0,126.0 546.0,126.0\""));
  EXPECT_THAT(svg, HasSubstr("<line x1=\"546.0\" y1=\"238.0\" x2=\"546.0\" y2=\"14.0\""));
}

TEST(PlotSvg, ShowsOneValueAndNothing) {
  EXPECT_THAT(
      PlotSvg({.title = "t", .x_label = "x", .curves = {{.name = "a", .points = {{1, 5}}}}}),
      HasSubstr("<circle"));
  EXPECT_EQ(PlotSvg({.title = "t", .x_label = "x", .curves = {}}), "");
  EXPECT_EQ(
      PlotSvg({.title = "t", .x_label = "x", .curves = {{.name = "a", .points = {{1, NAN}}}}}), "");
}

}  // namespace
}  // namespace imageddpo
