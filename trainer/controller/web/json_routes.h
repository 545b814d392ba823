#pragma once

#include <vector>

#include "common/http/http_server.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

struct JsonSources {
  JobApi& jobs;
  const JobStore& store;
};

/// What docs/web.md lists below /api/v1/ to be read (change_routes.h has the rest), with the same
/// functions as the gRPC methods. Everything is read on the server's threads, but for the cluster's
/// view.
/// @param sources  must outlive the routes.
std::vector<HttpRoute> JsonRoutes(const JsonSources& sources);

}  // namespace imageddpo
