#include "common/metrics/http_exporter.h"

#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kJsonType[] = "application/json";

}  // namespace

HttpRoute MetricsRoute(std::shared_ptr<prometheus::Registry> registry) {
  return {"/metrics", [registry = std::move(registry)](const HttpRequest&) {
            const std::string text = prometheus::TextSerializer().Serialize(registry->Collect());
            return HttpResponse{.type = kMetricsType, .body = text};
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
