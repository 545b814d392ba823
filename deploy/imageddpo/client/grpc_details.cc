#include "deploy/imageddpo/client/grpc_details.h"

#include <utility>

#include "common/base/refusal.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace imageddpo {

absl::Status WithDetailsOf(const grpc::Status& from, absl::Status status) {
  google::rpc::Status details;
  if (!details.ParseFromString(from.error_details())) return status;
  Refusal refusal;
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest request;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info)) {
      refusal.reason = info.reason();
      for (const auto& [key, value] : info.metadata()) refusal.metadata[key] = value;
    } else if (detail.Is<google::rpc::BadRequest>() && detail.UnpackTo(&request)) {
      for (const auto& violation : request.field_violations()) {
        refusal.violations.push_back({violation.field(), violation.description()});
      }
    }
  }
  return refusal.reason.empty() ? status : WithRefusal(std::move(status), refusal);
}

}  // namespace imageddpo
