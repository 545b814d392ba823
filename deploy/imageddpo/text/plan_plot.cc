#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/plan_text.h"
#include "deploy/imageddpo/text/svg.h"

namespace imageddpo {
namespace {

constexpr double kWidth = 720, kHeight = 440, kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;
constexpr const char* kColours[] = {"#1f6fb4", "#c8531c", "#2d8a4e", "#7b4fa3"};

/// A logarithmic axis over whole decades, from `begin` to `end` pixels.
struct Axis {
  int low = 0, high = 1;
  double begin = 0, end = 1;

  double operator()(double value) const {
    return begin + (end - begin) * (std::log10(value) - low) / (high - low);
  }
  static Axis Over(double least, double most, double begin, double end) {
    Axis axis{.begin = begin, .end = end};
    axis.low = static_cast<int>(std::floor(std::log10(least) + 1e-9));
    axis.high = std::max(axis.low + 1, static_cast<int>(std::ceil(std::log10(most) - 1e-9)));
    return axis;
  }
};

int RanksOf(const Prediction& prediction) {
  return prediction.topology.ranks() + prediction.idle_ranks;
}

std::string Grid(const Axis& x, const Axis& y) {
  const std::string style = "stroke=\"#ddd\"";
  std::string svg;
  for (int decade = x.low; decade <= x.high; ++decade) {
    const double at = x(std::pow(10, decade));
    absl::StrAppend(&svg, SvgLine(at, y.begin, at, y.end, style),
                    SvgText(at, y.begin + 18, "middle", FormatNumber(std::pow(10, decade))));
  }
  for (int decade = y.low; decade <= y.high; ++decade) {
    const double at = y(std::pow(10, decade));
    absl::StrAppend(&svg, SvgLine(x.begin, at, x.end, at, style),
                    SvgText(x.begin - 8, at + 4, "end", FormatNumber(std::pow(10, decade))));
  }
  return svg;
}

}  // namespace

std::string ScalingSvg(const std::string& title,
                       const std::vector<std::pair<std::string, std::vector<Prediction>>>& curves) {
  double least = INFINITY, most = 0, ranks = 1;
  for (const auto& [name, predictions] : curves) {
    for (const Prediction& prediction : predictions) {
      least = std::min(least, prediction.images_per_second());
      most = std::max(most, prediction.images_per_second());
      ranks = std::max<double>(ranks, RanksOf(prediction));
    }
  }
  if (most <= 0) return "";
  const Axis x = Axis::Over(1, ranks, kLeft, kWidth - kRight);
  const Axis y = Axis::Over(least, most, kHeight - kBottom, kTop);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  absl::StrAppend(&svg, SvgText(kWidth / 2, 22, "middle", title, " font-size=\"14\""), Grid(x, y),
                  SvgText(kWidth / 2, kHeight - 12, "middle", "ranks"),
                  SvgText(16, kTop - 12, "start", "images/s"));
  for (size_t i = 0; i < curves.size(); ++i) {
    const auto& [name, predictions] = curves[i];
    if (predictions.empty()) continue;
    const std::string colour = kColours[i % std::size(kColours)];
    const double one = predictions.front().images_per_second() / RanksOf(predictions.front());
    // As far as a straight line from the first point stays in the picture.
    const double far = std::min(std::pow(10, x.high), std::pow(10, y.high) / one);
    absl::StrAppend(&svg, SvgLine(x(1), y(one), x(far), y(one * far),
                                  absl::StrCat("stroke=\"", colour,
                                               "\" stroke-dasharray=\"3 4\" opacity=\"0.6\"")));
    std::string points;
    for (const Prediction& prediction : predictions) {
      absl::StrAppendFormat(&points, "%.1f,%.1f ", x(RanksOf(prediction)),
                            y(prediction.images_per_second()));
    }
    absl::StrAppendFormat(
        &svg, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points,
        colour);
    const double legend_y = kTop + 18 + 18 * static_cast<double>(i);
    absl::StrAppend(&svg,
                    SvgLine(kLeft + 14, legend_y - 4, kLeft + 38, legend_y - 4,
                            absl::StrCat("stroke=\"", colour, "\" stroke-width=\"2\"")),
                    SvgText(kLeft + 44, legend_y, "start", name));
  }
  absl::StrAppend(&svg,
                  SvgText(kLeft + 44, kTop + 18 + 18 * static_cast<double>(curves.size()), "start",
                          "dotted: as many times the speed as ranks"),
                  "</svg>\n");
  return svg;
}

}  // namespace imageddpo
