#include "trainer/controller/api/server_credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/access/certificates.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr unsigned kReloadSeconds = 5;

absl::StatusOr<std::string> ReadNamed(const std::string& setting, const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (text.ok()) return text;
  return absl::FailedPreconditionError(
      absl::StrCat("`access.", setting, "`: ", text.status().message(),
                   "; `imageddpo admin init` makes certificates and a first token"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(
    const Endpoint& endpoint) {
  namespace tls = grpc::experimental;
  const TlsFiles& files = endpoint.tls;
  if (files.empty()) return grpc::InsecureServerCredentials();
  KeyPair pair;
  IMAGEDDPO_ASSIGN_OR_RETURN(pair.certificate,
                             ReadNamed("tls_certificate_file", files.certificate_file));
  IMAGEDDPO_ASSIGN_OR_RETURN(pair.key, ReadNamed("tls_key_file", files.key_file));
  if (const absl::Status fits = CheckKeyPair(pair); !fits.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("`access.tls_certificate_file` ",
                                                      files.certificate_file, " with ",
                                                      files.key_file, ": ", fits.message()));
  }
  if (!files.ca_file.empty()) {
    IMAGEDDPO_RETURN_IF_ERROR(ReadNamed("tls_client_ca_file", files.ca_file).status());
  }
  tls::TlsServerCredentialsOptions options(std::make_shared<tls::FileWatcherCertificateProvider>(
      files.key_file, files.certificate_file, files.ca_file, kReloadSeconds));
  options.watch_identity_key_cert_pairs();
  if (!files.ca_file.empty()) options.watch_root_certs();
  options.set_cert_request_type(files.ca_file.empty()
                                    ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                    : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return tls::TlsServerCredentials(options);
}

}  // namespace imageddpo
