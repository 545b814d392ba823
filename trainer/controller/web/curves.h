#pragma once

#include <cstddef>
#include <istream>
#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// A curve. x: epochs trained, with a fraction where an epoch has several rows: the second of four
/// rows of the third epoch is at 2.5. y: NaN where the row has no number.
struct RowCurve {
  std::vector<double> x, y;
};

/// The rows of a metrics.jsonl or timings.jsonl as a curve for each number in them; of an object's
/// entries as "parts_mean.jpeg.value". Lines that are no rows, as one that is being written, are
/// left out.
struct CurveTable {
  size_t num_rows = 0;
  std::map<std::string, RowCurve> series;
};
CurveTable ReadCurves(std::istream& rows);

/// A curve of at most `max_points` (at least 4) that looks the same: the first and the last point,
/// and of each stretch in between the smallest and the largest value, in their order; a stretch
/// with a NaN in it keeps one, unless it has no room.
RowCurve ThinCurve(const RowCurve& series, size_t max_points);

/// The last `count` points, or all there are.
RowCurve LastPoints(const RowCurve& series, size_t count);

/// The mean of y over stretches of equal length, at most `max_points` (at least 1); x: that of a
/// stretch's last point. NaN counts as nothing.
RowCurve AverageCurve(const RowCurve& series, size_t max_points);

/// {"rows": 12, "series": {"loss": {"x": [1, 2], "y": [0.5, null]}}}; six digits, NaN and
/// infinities as null.
std::string CurvesJson(const CurveTable& table);

}  // namespace imageddpo
