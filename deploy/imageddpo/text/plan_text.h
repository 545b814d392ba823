#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/plan/predict.h"

namespace imageddpo {

/// Predictions of one job, as they are ordered: a table of topologies, then where the best one's
/// time and memory go.
std::string PlanText(const std::vector<Prediction>& predictions);
/// The same as one JSON object with `predictions`, all of them with all of their parts.
std::string PlanJson(const std::vector<Prediction>& predictions);

/// How a job grows with its ranks: one line for each number of ranks.
std::string ScalingText(const std::vector<Prediction>& predictions);
/// Images per second over ranks, both axes logarithmic, as an SVG picture.
/// @param curves  predictions by name; empty ones are left out.
std::string ScalingSvg(const std::string& title,
                       const std::vector<std::pair<std::string, std::vector<Prediction>>>& curves);

}  // namespace imageddpo
