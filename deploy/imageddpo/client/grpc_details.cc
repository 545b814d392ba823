#include "deploy/imageddpo/client/grpc_details.h"

#include <utility>

#include "common/base/rejection.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace imageddpo {

absl::Status WithDetailsOf(const grpc::Status& from, absl::Status status) {
  google::rpc::Status details;
  if (!details.ParseFromString(from.error_details())) return status;
  Rejection rejection;
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest request;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info)) {
      rejection.reason = info.reason();
      for (const auto& [key, value] : info.metadata()) rejection.metadata[key] = value;
    } else if (detail.Is<google::rpc::BadRequest>() && detail.UnpackTo(&request)) {
      for (const auto& violation : request.field_violations()) {
        rejection.violations.push_back({violation.field(), violation.description()});
      }
    }
  }
  return rejection.reason.empty() ? status : WithRejection(std::move(status), rejection);
}

}  // namespace imageddpo
