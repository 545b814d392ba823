#include "common/io/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <new>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

/// OpenSSL's calls for a digest fail only when it cannot allocate.
void CheckAllocated(bool ok) {
  if (!ok) throw std::bad_alloc();
}

}  // namespace

struct Sha256::Context {
  Context() { CheckAllocated(digest != nullptr); }
  ~Context() { EVP_MD_CTX_free(digest); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  EVP_MD_CTX* const digest = EVP_MD_CTX_new();
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  CheckAllocated(EVP_DigestInit_ex(context_->digest, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Add(std::string_view bytes) {
  CheckAllocated(EVP_DigestUpdate(context_->digest, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::Hex() const {
  const Context copy;
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  CheckAllocated(EVP_MD_CTX_copy_ex(copy.digest, context_->digest) == 1 &&
                 EVP_DigestFinal_ex(copy.digest, bytes.data(), &size) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), size));
}

absl::StatusOr<std::string> FileSha256(const std::string& path, uintmax_t most_bytes) {
  constexpr size_t kPartBytes = size_t{1} << 20;
  std::error_code error;
  if (const uintmax_t bytes = std::filesystem::file_size(path, error);
      !error && bytes > most_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("'", ValidText(path), "' has ", bytes,
                                                   " bytes; at most ", most_bytes,
                                                   " are read for its SHA-256"));
  }
  std::ifstream file(path, std::ios::binary);
  Sha256 hash;
  std::string part(kPartBytes, '\0');
  while (file) {
    file.read(part.data(), static_cast<std::streamsize>(part.size()));
    hash.Add({part.data(), static_cast<size_t>(file.gcount())});
  }
  if (file.eof()) return hash.Hex();
  return absl::NotFoundError(absl::StrCat("cannot read '", ValidText(path), "'"));
}

}  // namespace imageddpo
