#include "common/access/certificates.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr long kSecondsPerDay = 86'400;
constexpr long kBackdateSeconds = 3600;  // Hosts' clocks differ.

template <typename T, void (*Free)(T*)>
struct Freed {
  void operator()(T* object) const { Free(object); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Freed<X509, X509_free>>;
using BioPtr = std::unique_ptr<BIO, Freed<BIO, BIO_free_all>>;
using NumberPtr = std::unique_ptr<BIGNUM, Freed<BIGNUM, BN_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION, X509_EXTENSION_free>>;

absl::Status OpenSslError(const std::string& what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return absl::InternalError(absl::StrCat(what, ": ", text.data()));
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(std::max(0L, size)));
}

absl::StatusOr<KeyPair> ToPem(X509* certificate, EVP_PKEY* key) {
  const BioPtr certificate_bio(BIO_new(BIO_s_mem())), key_bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_bio.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(key_bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpenSslError("a certificate cannot be written");
  }
  return KeyPair{TextOf(certificate_bio.get()), TextOf(key_bio.get())};
}

CertificatePtr CertificateOf(const std::string& pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return CertificatePtr(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

/// Never asks for a password.
KeyPtr KeyOf(const std::string& pem) {
  char none[] = "";
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return KeyPtr(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, none));
}

bool AddExtension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

/// With a new serial number and everything but extensions and signature.
absl::StatusOr<CertificatePtr> Unsigned(const std::string& common_name, EVP_PKEY* key, X509* issuer,
                                        int days) {
  CertificatePtr certificate(X509_new());
  const NumberPtr serial(BN_new());
  // 127 random bits: positive, and never used twice.
  if (certificate == nullptr || serial == nullptr ||
      BN_rand(serial.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate.get())) == nullptr) {
    return OpenSslError("a certificate cannot be made");
  }
  X509* const made = certificate.get();
  X509_NAME* const name = X509_get_subject_name(made);
  const bool ok =
      X509_set_version(made, 2) == 1 &&  // Counts from 0: version 3.
      X509_gmtime_adj(X509_getm_notBefore(made), -kBackdateSeconds) != nullptr &&
      X509_gmtime_adj(X509_getm_notAfter(made), days * kSecondsPerDay) != nullptr &&
      X509_set_pubkey(made, key) == 1 &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.data()),
                                 static_cast<int>(common_name.size()), -1, 0) == 1 &&
      X509_set_issuer_name(made, issuer == nullptr ? name : X509_get_subject_name(issuer)) == 1;
  if (!ok) return OpenSslError("a certificate cannot be made");
  return certificate;
}

bool IsAddress(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

bool IsHostName(const std::string& host) {
  return !host.empty() && host.size() <= 253 &&
         std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_' || c == '*';
         });
}

}  // namespace

absl::StatusOr<KeyPair> MakeAuthority(const std::string& common_name, int days) {
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("a key cannot be made");
  IMAGEDDPO_ASSIGN_OR_RETURN(const CertificatePtr certificate,
                             Unsigned(common_name, key.get(), nullptr, days));
  X509* const made = certificate.get();
  if (!AddExtension(made, made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !AddExtension(made, made, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !AddExtension(made, made, NID_subject_key_identifier, "hash") ||
      X509_sign(made, key.get(), EVP_sha256()) == 0) {
    return OpenSslError("the authority's certificate cannot be made");
  }
  return ToPem(made, key.get());
}

absl::StatusOr<KeyPair> IssueCertificate(const KeyPair& authority, const std::string& common_name,
                                         const std::vector<std::string>& hosts, int days) {
  std::vector<std::string> names;
  for (const std::string& host : hosts) {
    if (!IsAddress(host) && !IsHostName(host)) {
      return absl::InvalidArgumentError(
          absl::StrCat("`", Excerpt(host, 100), "` is neither a host's name nor an IP address"));
    }
    names.push_back(absl::StrCat(IsAddress(host) ? "IP:" : "DNS:", host));
  }
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(CheckKeyPair(authority), "the authority"));
  const CertificatePtr issuer = CertificateOf(authority.certificate);
  const KeyPtr issuer_key = KeyOf(authority.key);
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("a key cannot be made");
  IMAGEDDPO_ASSIGN_OR_RETURN(const CertificatePtr certificate,
                             Unsigned(common_name, key.get(), issuer.get(), days));
  X509* const made = certificate.get();
  const bool ok = AddExtension(made, issuer.get(), NID_basic_constraints, "critical,CA:FALSE") &&
                  AddExtension(made, issuer.get(), NID_key_usage, "critical,digitalSignature") &&
                  AddExtension(made, issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
                  AddExtension(made, issuer.get(), NID_subject_key_identifier, "hash") &&
                  AddExtension(made, issuer.get(), NID_authority_key_identifier, "keyid:always") &&
                  (names.empty() || AddExtension(made, issuer.get(), NID_subject_alt_name,
                                                 absl::StrJoin(names, ","))) &&
                  X509_sign(made, issuer_key.get(), EVP_sha256()) != 0;
  if (!ok) return OpenSslError("the certificate cannot be made");
  return ToPem(made, key.get());
}

absl::Status CheckKeyPair(const KeyPair& pair) {
  const CertificatePtr certificate = CertificateOf(pair.certificate);
  const KeyPtr key = KeyOf(pair.key);
  ERR_clear_error();
  if (certificate == nullptr) return absl::InvalidArgumentError("the certificate is no PEM file");
  if (key == nullptr) {
    return absl::InvalidArgumentError("the private key is no PEM file, or has a password");
  }
  const bool belongs = X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (!belongs) return absl::InvalidArgumentError("the private key is not the certificate's");
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return absl::InvalidArgumentError("the certificate has expired");
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) {
    return absl::InvalidArgumentError("the certificate is not valid yet");
  }
  return absl::OkStatus();
}

std::optional<double> ExpiryOf(const std::string& certificate_pem) {
  const CertificatePtr certificate = CertificateOf(certificate_pem);
  ERR_clear_error();
  std::tm time{};
  if (certificate == nullptr ||
      ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &time) != 1) {
    return std::nullopt;
  }
  return static_cast<double>(::timegm(&time));
}

}  // namespace imageddpo
