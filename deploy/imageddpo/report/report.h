#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "deploy/imageddpo/report/document.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// An image that the job was given, and what it made of it before and after training. PNG files'
/// contents; empty where there is none.
struct BeforeAfter {
  std::string label;
  std::string input, before, after;
  std::optional<double> reward_before, reward_after;
};

/// What a report says of one job; everything comes through the API but the pictures.
struct JobReport {
  v1::Job job;
  std::vector<v1::JobEvent> events;  ///< The stored ones.
  std::vector<BeforeAfter> pictures;
  std::string pictures_note;  ///< What they are of, or why there are none.
};

/// What was asked, whether the job learned, its curves, pictures, evaluations, what went wrong,
/// what it cost, and how to run it again. Of several jobs first how they compare.
/// @param jobs     at least one. @param version  of the client.
Document ComposeReport(const std::vector<JobReport>& jobs, const std::string& version);

}  // namespace imageddpo
