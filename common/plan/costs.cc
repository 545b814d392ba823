#include "common/plan/costs.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr int kFormat = 1;

absl::Status Wrong(const std::string& source, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", what, "; ", HowToMeasure()));
}

/// A positive finite number, or NaN.
double Positive(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return NAN;
  const auto value = found->get<double>();
  return std::isfinite(value) && value > 0 ? value : NAN;
}

absl::StatusOr<CostCurve> ReadCurve(const nlohmann::json& stages, const char* name,
                                    const std::string& source) {
  const auto found = stages.find(name);
  if (found == stages.end() || !found->is_array() || found->empty()) {
    return Wrong(source, absl::StrCat("stages.", name, " has no measurement"));
  }
  std::vector<CostPoint> points;
  for (const nlohmann::json& entry : *found) {
    const bool is_object = entry.is_object();
    const double work = is_object ? Positive(entry, "work") : NAN;
    const double seconds = is_object ? Positive(entry, "seconds") : NAN;
    if (std::isnan(work) || std::isnan(seconds)) {
      return Wrong(source, absl::StrCat("stages.", name,
                                        " has an entry without a positive work and seconds"));
    }
    points.push_back({.work = work, .seconds = seconds});
  }
  return CostCurve(std::move(points));
}

absl::Status ReadLink(const nlohmann::json& root, const std::string& source, LinkCosts* link) {
  const auto found = root.find("link");
  if (found == root.end() || !found->is_object()) return Wrong(source, "it has no link");
  link->latency_seconds = Positive(*found, "latency_seconds");
  link->message_seconds = Positive(*found, "message_seconds");
  link->bytes_per_second = Positive(*found, "bytes_per_second");
  const auto measured = found->find("measured");
  link->measured = measured != found->end() && measured->is_boolean() && measured->get<bool>();
  if (std::isnan(link->latency_seconds + link->message_seconds + link->bytes_per_second)) {
    return Wrong(source,
                 "link needs positive latency_seconds, message_seconds and bytes_per_second");
  }
  return absl::OkStatus();
}

std::string TextOf(const nlohmann::json& root, const char* key) {
  const auto found = root.find(key);
  return found != root.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

CostCurve::CostCurve(std::vector<CostPoint> points) {
  std::sort(points.begin(), points.end(),
            [](const CostPoint& a, const CostPoint& b) { return a.work < b.work; });
  for (size_t begin = 0, end = 0; begin < points.size(); begin = end) {
    double sum = 0;
    for (; end < points.size() && points[end].work == points[begin].work; ++end) {
      sum += points[end].seconds;
    }
    points_.push_back({points[begin].work, sum / static_cast<double>(end - begin)});
  }
}

void CostCurve::Scale(double factor) {
  for (CostPoint& point : points_) point.seconds *= factor;
}

double CostCurve::Seconds(double work) const {
  if (points_.empty() || work <= 0) return 0;
  const CostPoint& last = points_.back();
  if (points_.size() == 1 || work >= last.work) return last.seconds * work / last.work;
  size_t right = 1;
  while (points_[right].work < work) ++right;
  const CostPoint &a = points_[right - 1], &b = points_[right];
  const double slope = (b.seconds - a.seconds) / (b.work - a.work);
  if (work < a.work) {
    const double at_zero = a.seconds - slope * a.work;
    if (at_zero < 0 || slope < 0) return a.seconds * work / a.work;
  }
  return a.seconds + slope * (work - a.work);
}

const std::vector<NamedStage>& CostStages() {
  static const std::vector<NamedStage> kStages = {{"sample_step", &Costs::sample_step},
                                                  {"gradient_step", &Costs::gradient_step},
                                                  {"replay_step", &Costs::replay_step},
                                                  {"encode", &Costs::encode},
                                                  {"decode", &Costs::decode},
                                                  {"text", &Costs::text},
                                                  {"draw", &Costs::draw},
                                                  {"reward", &Costs::reward},
                                                  {"optimizer", &Costs::optimizer},
                                                  {"bind", &Costs::bind},
                                                  {"copy", &Costs::copy}};
  return kStages;
}

std::string Costs::ToJson() const {
  nlohmann::ordered_json root = {{"format", kFormat},      {"device", device},
                                 {"precision", precision}, {"num_threads", num_threads},
                                 {"model", model},         {"rewards", rewards}};
  for (const NamedStage& stage : CostStages()) {
    auto& points = root["stages"][stage.name] = nlohmann::ordered_json::array();
    for (const CostPoint& point : (this->*stage.curve).points()) {
      points.push_back({{"work", point.work}, {"seconds", point.seconds}});
    }
  }
  root["link"] = {{"latency_seconds", link.latency_seconds},
                  {"message_seconds", link.message_seconds},
                  {"bytes_per_second", link.bytes_per_second},
                  {"measured", link.measured}};
  return root.dump(1) + "\n";
}

absl::StatusOr<Costs> Costs::FromJson(std::string_view text, const std::string& source) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view utf8, Utf8Of(text, source));
  const auto root = nlohmann::json::parse(utf8, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return Wrong(source, "it is no JSON object");
  const auto format = root.find("format");
  if (format == root.end() || *format != kFormat) {
    return Wrong(source, absl::StrCat("its format is not ", kFormat));
  }
  const auto stages = root.find("stages");
  if (stages == root.end() || !stages->is_object()) return Wrong(source, "it has no stages");
  Costs costs;
  for (const NamedStage& stage : CostStages()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(costs.*stage.curve, ReadCurve(*stages, stage.name, source));
  }
  IMAGEDDPO_RETURN_IF_ERROR(ReadLink(root, source, &costs.link));
  costs.device = TextOf(root, "device");
  costs.precision = TextOf(root, "precision");
  costs.model = TextOf(root, "model");
  costs.rewards = TextOf(root, "rewards");
  const double threads = Positive(root, "num_threads");
  costs.num_threads = std::isnan(threads) ? 0 : static_cast<int>(threads);
  return costs;
}

absl::StatusOr<Costs> MeanCosts(const Costs& before, const Costs& after) {
  Costs mean = before;
  for (const NamedStage& stage : CostStages()) {
    const auto &a = (before.*stage.curve).points(), &b = (after.*stage.curve).points();
    std::vector<CostPoint> points;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (a[i].work != b[i].work) break;
      points.push_back({a[i].work, (a[i].seconds + b[i].seconds) / 2});
    }
    if (points.size() != a.size() || points.size() != b.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the costs of stage ", stage.name,
                       " were not measured at the same points; measure both with the same job"));
    }
    mean.*stage.curve = CostCurve(std::move(points));
  }
  return mean;
}

Costs FasterCosts(const Costs& costs, double factor) {
  Costs faster = costs;
  for (const NamedStage& stage : CostStages()) (faster.*stage.curve).Scale(1 / factor);
  return faster;
}

std::string HowToMeasure() {
  return "measure the costs on such a device: imageddpo-trace costs --job job.yaml --output "
         "costs.json";
}

}  // namespace imageddpo
