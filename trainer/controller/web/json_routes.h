#pragma once

#include <functional>
#include <vector>

#include "common/http/http_server.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

struct JsonSources {
  const JobApi& jobs;
  const JobStore& store;
  std::function<v1::Cluster()> cluster;  ///< Thread-safe.
};

/// What docs/web.md lists below /api/v1/ to be read (change_routes.h has the rest), with the same
/// functions as the gRPC methods. Everything is read on the server's threads; the controller's
/// thread waits for none of it.
/// @param sources  must outlive the routes.
std::vector<HttpRoute> JsonRoutes(const JsonSources& sources);

}  // namespace imageddpo
