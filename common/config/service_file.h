#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace imageddpo {

/// <data_dir>/service.json: where a running service can be reached. Written by rank 0 once it
/// serves, with ports as bound; read by clients with --service-file.
struct ServiceFile {
  std::string grpc_address;  ///< "unix:/srv/out/imageddpo/api.sock", "host:50051"
  std::string http_address;  ///< "127.0.0.1:9464"
  int64_t pid = 0;           ///< Of rank 0.
  std::string version;
  bool tls = false;  ///< Whether the API is served with TLS and tokens.
};

/// One JSON object and a newline.
std::string ServiceFileToJson(const ServiceFile& file);

/// @param name  for messages. @return INVALID_ARGUMENT naming it and what is missing.
absl::StatusOr<ServiceFile> ParseServiceFile(std::string_view text, const std::string& name);

}  // namespace imageddpo
