#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// Of a service that was started in this folder without a cluster.yaml.
inline constexpr char kDefaultAddress[] = "unix:out/imageddpo/api.sock";
inline constexpr char kAddressVariable[] = "IMAGEDDPO_ADDRESS";

/// How the user says where the service is and who is calling; empty: not said. Options and
/// environment variables have this form.
struct AddressOptions {
  std::string address = "";               ///< --address HOST:PORT or unix:PATH; $IMAGEDDPO_ADDRESS
  std::string service_file = "";          ///< --service-file data_dir/service.json
  std::string context = "";               ///< --context NAME; $IMAGEDDPO_CONTEXT
  std::string tls_ca_file = "";           ///< --tls-ca-file FILE; $IMAGEDDPO_TLS_CA_FILE
  std::string tls_certificate_file = "";  ///< --tls-certificate-file FILE
  std::string tls_key_file = "";          ///< --tls-key-file FILE
  std::string token_file = "";            ///< --token-file FILE; $IMAGEDDPO_TOKEN_FILE
  std::string token = "";                 ///< $IMAGEDDPO_TOKEN; no option: `ps` shows those.
};

/// The environment's variables.
AddressOptions AddressFromEnvironment();

/// Where to call, as whom: --address, --service-file or --context, else $IMAGEDDPO_ADDRESS, else
/// $IMAGEDDPO_CONTEXT, else the context in use, else kDefaultAddress. A context's certificates and
/// token go with its address alone; options and variables replace them one by one. A service file
/// whose service has TLS stands beside access/ca.pem, which is taken where no other is named. Reads
/// the files anew each time: a restarted service may have another port.
/// @param contexts_file  see ContextsFile(); empty: there are no contexts.
/// @return INVALID_ARGUMENT for something that is no address or no context, a file that cannot be
/// read, and a token that would travel unencrypted to another host; UNAVAILABLE where the service
/// file is missing, which it is while no service runs.
absl::StatusOr<Endpoint> ResolveAddress(const AddressOptions& options,
                                        const AddressOptions& environment,
                                        const std::string& contexts_file);

}  // namespace imageddpo
