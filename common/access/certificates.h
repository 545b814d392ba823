#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// A certificate and its private key, both as PEM.
struct KeyPair {
  std::string certificate;
  std::string key;
};

/// A new certificate authority (X.509 v3, ECDSA on P-256) that may issue certificates of servers
/// and clients and no further authorities. @return INTERNAL with OpenSSL's message.
absl::StatusOr<KeyPair> MakeAuthority(const std::string& common_name, int days);

/// A new certificate of the authority, for both ends of TLS.
/// @param hosts  names and addresses by which clients reach the server: its subjectAltName. Without
/// any, a client's certificate. @return INVALID_ARGUMENT naming a host that is neither, or an
/// authority that cannot be read; INTERNAL with OpenSSL's message.
absl::StatusOr<KeyPair> IssueCertificate(const KeyPair& authority, const std::string& common_name,
                                         const std::vector<std::string>& hosts, int days);

/// @return INVALID_ARGUMENT: one of them is no PEM, the key is not the certificate's, or the
/// certificate is not valid now.
absl::Status CheckKeyPair(const KeyPair& pair);

/// When a certificate expires, in seconds since 1970; nothing: it is no PEM.
std::optional<double> ExpiryOf(const std::string& certificate_pem);

}  // namespace imageddpo
