#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// A part of a job's log: {"lines": [LogLine, …], "cursor": "…", "more": false}. `more`: there are
/// lines after these now; whoever follows the log asks again with `cursor` in any case.
/// @param request  as for StreamLogs; `follow` has no meaning. With a `tail` its last lines, else
/// some hundreds of lines from the cursor, or from the beginning, on.
/// @return NOT_FOUND: there is no such job; INVALID_ARGUMENT naming the field that is wrong.
absl::StatusOr<std::string> LogLinesJson(const JobStore& store,
                                         const v1::StreamLogsRequest& request);

}  // namespace imageddpo
