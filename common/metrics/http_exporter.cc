#include "common/metrics/http_exporter.h"

#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/base/text.h"
#include "common/metrics/open_metrics.h"

namespace imageddpo {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kJsonType[] = "application/json";

}  // namespace

HttpRoute MetricsRoute(std::shared_ptr<prometheus::Registry> registry) {
  return {"/metrics", [registry = std::move(registry)](const HttpRequest& request) {
            const std::vector<prometheus::MetricFamily> families = registry->Collect();
            const bool is_open = WantsOpenMetrics(request.Header("accept"));
            return HttpResponse{.type = is_open ? kOpenMetricsType : kMetricsType,
                                .body = is_open ? OpenMetricsText(families)
                                                : prometheus::TextSerializer().Serialize(families),
                                .extra_headers = "Vary: Accept\r\n"};
          }};
}

HttpRoute HealthRoute(std::function<Health()> health) {
  return {"/healthz", [health = std::move(health)](const HttpRequest&) {
            const Health now = health();
            const nlohmann::json body = {{"status", now.ok ? "ok" : "unhealthy"},
                                         {"reason", ValidMessage(now.reason)}};
            return HttpResponse{
                .code = now.ok ? 200 : 503, .type = kJsonType, .body = body.dump() + "\n"};
          }};
}

}  // namespace imageddpo
