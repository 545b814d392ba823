#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "deploy/imageddpo/report/document.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/svg.h"

namespace imageddpo {
namespace {

constexpr double kWidth = 560, kHeight = 280, kLeft = 62, kRight = 14, kTop = 14, kBottom = 42;
constexpr double kLegendLine = 18;
constexpr int kTicks = 5;

/// A linear axis that shows `low` to `high` between two pixels.
struct Axis {
  double low = 0, high = 1, step = 0.25;
  double begin = 0, end = 1;

  double operator()(double value) const {
    return begin + (end - begin) * (value - low) / (high - low);
  }
  /// Widened to multiples of a step of 1, 2 or 5 times a power of ten.
  static Axis Over(double least, double most, double begin, double end) {
    if (most <= least) {  // One value: in the middle.
      const double half = least == 0 ? 1 : std::abs(least) / 2;
      least -= half;
      most += half;
    }
    const double rough = (most - least) / kTicks;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double digit = rough / power - 1e-9;  // Rounding must not ask for the next step.
    const double step = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
    return {.low = std::floor(least / step) * step,
            .high = std::ceil(most / step) * step,
            .step = step,
            .begin = begin,
            .end = end};
  }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    const auto count = static_cast<int>(std::lround((high - low) / step));
    for (int i = 0; i <= count; ++i) ticks.push_back((std::round(low / step) + i) * step);
    return ticks;
  }
};

struct Range {
  double least = INFINITY, most = -INFINITY;
  void Add(double value) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
};

double ErrorAt(const Curve& curve, size_t i) {
  return i < curve.errors.size() && std::isfinite(curve.errors[i]) ? curve.errors[i] : 0;
}

std::string GridOf(const Axis& x, const Axis& y) {
  std::string svg;
  for (const double tick : x.Ticks()) {
    absl::StrAppend(&svg, SvgLine(x(tick), y.begin, x(tick), y.end, "class=\"grid\""),
                    SvgText(x(tick), y.begin + 16, "middle", FormatNumber(tick)));
  }
  for (const double tick : y.Ticks()) {
    absl::StrAppend(&svg, SvgLine(x.begin, y(tick), x.end, y(tick), "class=\"grid\""),
                    SvgText(x.begin - 6, y(tick) + 4, "end", FormatNumber(tick)));
  }
  return svg;
}

/// Lines between neighbouring finite values, a dot where one has no neighbour, and error bars.
std::string LinesOf(const Curve& curve, const Axis& x, const Axis& y, const std::string& colour) {
  std::string svg, points;
  size_t count = 0;
  const auto end_line = [&] {
    if (count > 1) {
      absl::StrAppend(&svg, "<polyline class=\"curve ", colour, "\" points=\"", points, "\"/>\n");
    } else if (count == 1) {
      const size_t comma = points.find(',');
      absl::StrAppend(&svg, "<circle class=\"dot ", colour, "\" cx=\"", points.substr(0, comma),
                      "\" cy=\"", points.substr(comma + 1), "\" r=\"3\"/>\n");
    }
    points.clear();
    count = 0;
  };
  for (size_t i = 0; i < curve.points.size(); ++i) {
    const auto& [at, value] = curve.points[i];
    if (!std::isfinite(value)) {
      end_line();
      continue;
    }
    absl::StrAppendFormat(&points, "%s%.1f,%.1f", count == 0 ? "" : " ", x(at), y(value));
    ++count;
    if (const double error = ErrorAt(curve, i); error > 0) {
      absl::StrAppend(&svg, SvgLine(x(at), y(value - error), x(at), y(value + error),
                                    absl::StrCat("class=\"curve ", colour, "\"")));
    }
  }
  end_line();
  return svg;
}

}  // namespace

std::string PlotSvg(const Plot& plot) {
  Range xs, ys;
  for (const Curve& curve : plot.curves) {
    for (size_t i = 0; i < curve.points.size(); ++i) {
      const auto& [at, value] = curve.points[i];
      if (!std::isfinite(value)) continue;
      xs.Add(at);
      ys.Add(value - ErrorAt(curve, i));
      ys.Add(value + ErrorAt(curve, i));
    }
  }
  if (xs.least > xs.most) return "";
  const bool has_legend = plot.curves.size() > 1;
  const double legend = has_legend ? kLegendLine * static_cast<double>(plot.curves.size()) : 0;
  const Axis x = Axis::Over(xs.least, xs.most, kLeft, kWidth - kRight);
  const Axis y = Axis::Over(ys.least, ys.most, kHeight - kBottom, kTop);
  std::string svg =
      absl::StrFormat("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", kWidth,
                      kHeight + legend, EscapeMarkup(plot.title));
  absl::StrAppend(&svg, GridOf(x, y),
                  SvgText((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", plot.x_label));
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    const std::string colour = absl::StrCat("c", i % 6);
    absl::StrAppend(&svg, LinesOf(plot.curves[i], x, y, colour));
    if (!has_legend) continue;
    const double at = kHeight + kLegendLine * static_cast<double>(i);
    absl::StrAppend(
        &svg, SvgLine(kLeft, at, kLeft + 24, at, absl::StrCat("class=\"curve ", colour, "\"")),
        SvgText(kLeft + 32, at + 4, "start", Truncate(plot.curves[i].name, 70)));
  }
  return absl::StrCat(svg, "</svg>\n");
}

}  // namespace imageddpo
