#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/endpoint.h"

namespace imageddpo {

inline constexpr char kDefaultAddress[] = "127.0.0.1:50051";
inline constexpr char kAddressVariable[] = "IMAGEDDPO_ADDRESS";

/// How the user says where the service is; empty: not said.
struct AddressOptions {
  std::string address;       ///< --address HOST:PORT or unix:PATH
  std::string service_file;  ///< --service-file data_dir/service.json
};

/// Where to call: --address, else the service file, else $IMAGEDDPO_ADDRESS, else
/// 127.0.0.1:50051. Reads the file anew each time: a restarted service may have another port.
/// @param environment  the variable's value; empty: not set.
/// @return INVALID_ARGUMENT for something that is no address; UNAVAILABLE where the service file
/// is missing, which it is while no service runs.
absl::StatusOr<Endpoint> ResolveAddress(const AddressOptions& options,
                                        const std::string& environment);

}  // namespace imageddpo
