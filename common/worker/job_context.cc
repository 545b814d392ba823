#include "common/worker/job_context.h"

#include <utility>

namespace imageddpo {

void Warn(const JobContext& context, const std::string& message) {
  context.logger->warn("{}", message);
  v1::WorkerMessage warning;
  warning.mutable_warning()->set_job_id(context.start.job_id());
  warning.mutable_warning()->set_message(message);
  context.report(std::move(warning));
}

}  // namespace imageddpo
