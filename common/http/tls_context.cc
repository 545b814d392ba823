#include "common/http/tls_context.h"

#include <openssl/err.h>
#include <sys/stat.h>

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kLookInterval{5};

absl::Status Fault(const std::string& what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return absl::FailedPreconditionError(
      absl::StrCat("TLS of the HTTP server: ", what, " (", text.data(),
                   "); `imageddpo admin init` makes certificates, see `access` in cluster.yaml"));
}

absl::StatusOr<TlsContext::Context> NewContext(const TlsFiles& files) {
  ERR_clear_error();
  const TlsContext::Context context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
  if (context == nullptr) return Fault("OpenSSL does not start");
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(raw, files.certificate_file.c_str()) != 1) {
    return Fault(absl::StrCat(files.certificate_file, " cannot be read as a certificate"));
  }
  if (SSL_CTX_use_PrivateKey_file(raw, files.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Fault(absl::StrCat(files.key_file, " cannot be read as the certificate's key"));
  }
  if (files.ca_file.empty()) return context;
  if (SSL_CTX_load_verify_locations(raw, files.ca_file.c_str(), nullptr) != 1) {
    return Fault(absl::StrCat(files.ca_file, " cannot be read as certificates"));
  }
  SSL_CTX_set_client_CA_list(raw, SSL_load_client_CA_file(files.ca_file.c_str()));
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  // A client's session is resumed only in the context in which its certificate was checked.
  constexpr std::array<unsigned char, 9> kSession = {'i', 'm', 'a', 'g', 'e', 'd', 'd', 'p', 'o'};
  SSL_CTX_set_session_id_context(raw, kSession.data(), kSession.size());
  return context;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(const TlsFiles& files) {
  std::unique_ptr<TlsContext> tls(new TlsContext(files));
  const absl::MutexLock lock(&tls->mutex_);
  tls->stamps_ = tls->StampsOfFiles();
  absl::StatusOr<Context> context = NewContext(files);
  if (!context.ok()) return context.status();
  tls->context_ = *std::move(context);
  tls->next_look_ = std::chrono::steady_clock::now() + kLookInterval;
  return tls;
}

TlsContext::Stamps TlsContext::StampsOfFiles() const {
  Stamps stamps;
  for (const std::string& path : {files_.certificate_file, files_.key_file, files_.ca_file}) {
    struct stat found = {};
    if (!path.empty() && ::stat(path.c_str(), &found) == 0) {
      const int64_t time_ns = int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec;
      stamps[path] = {time_ns, found.st_ino};
    }
  }
  return stamps;
}

TlsContext::Context TlsContext::Get() {
  const absl::MutexLock lock(&mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return context_;
  next_look_ = now + kLookInterval;
  Stamps stamps = StampsOfFiles();
  if (stamps == stamps_) return context_;
  absl::StatusOr<Context> renewed = NewContext(files_);
  if (renewed.ok()) {  // Otherwise it may be half written; the next look tries again.
    context_ = *std::move(renewed);
    stamps_ = std::move(stamps);
  }
  return context_;
}

}  // namespace imageddpo
