#include "common/worker/job_context.h"

#include <utility>

namespace imageddpo {

void JobContext::Warn(const std::string& message) const {
  logger->warn("{}", message);
  v1::WorkerMessage warning;
  warning.mutable_warning()->set_job_id(start.job_id());
  warning.mutable_warning()->set_message(message);
  report(std::move(warning));
}

}  // namespace imageddpo
