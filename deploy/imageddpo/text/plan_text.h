#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/plan/predict.h"

namespace imageddpo {

/// What a plan says besides its predictions, of a job with `topology: auto`.
struct PlanNotes {
  std::optional<Topology> chosen;  ///< What the service would take; one of the predictions.
  /// With a named colocated topology, where the job would then take a single pass.
  std::optional<Prediction> single_pass;
};

/// Predictions of one job, as they are ordered: a table of topologies, then where the best one's
/// time and memory go, then the notes.
std::string PlanText(const std::vector<Prediction>& predictions, const PlanNotes& notes = {});
/// The same as one JSON object with `predictions`, all of them with all of their parts. `auto` is
/// the chosen one with `why`, and `single_pass` the note of that name, where there are notes.
std::string PlanJson(const std::vector<Prediction>& predictions, const PlanNotes& notes = {});

/// How a job grows with its ranks: one line for each number of ranks.
std::string ScalingText(const std::vector<Prediction>& predictions);
/// Images per second over ranks, both axes logarithmic, as an SVG picture.
/// @param curves  predictions by name; empty ones are left out.
std::string ScalingSvg(const std::string& title,
                       const std::vector<std::pair<std::string, std::vector<Prediction>>>& curves);

}  // namespace imageddpo
