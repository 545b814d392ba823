#pragma once

#include <vector>

#include "common/http/http_server.h"
#include "trainer/controller/api/access_control.h"
#include "trainer/controller/api/job_api.h"

namespace imageddpo {

/// POST /api/v1/jobs/ID/VERB, with the verbs pause (`now=true`: at once), resume, cancel and
/// checkpoint: the methods of the API with these names, for the same callers, with the same lines
/// in the audit log. They answer with the job as it then is.
/// @param jobs, access  must outlive the routes.
std::vector<HttpRoute> ChangeRoutes(JobApi& jobs, const AccessControl& access);

}  // namespace imageddpo
