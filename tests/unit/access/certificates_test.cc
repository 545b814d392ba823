#include "common/access/certificates.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "gmock/gmock.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class CertificatesTest : public ::testing::Test {
 protected:
  static X509* Parsed(const std::string& pem) {
    BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    X509* const certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    return certificate;
  }
};

TEST_F(CertificatesTest, AServersCertificateIsItsAuthoritys) {
  const auto authority = MakeAuthority("authority", 10);
  ASSERT_TRUE(authority.ok()) << authority.status();
  const auto server = IssueCertificate(*authority, "service", {"gpu1", "10.0.0.3", "::1"}, 5);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(CheckKeyPair(*authority).ok()) << CheckKeyPair(*authority);
  EXPECT_TRUE(CheckKeyPair(*server).ok()) << CheckKeyPair(*server);

  X509* const issuer = Parsed(authority->certificate);
  X509* const issued = Parsed(server->certificate);
  ASSERT_TRUE(issuer != nullptr && issued != nullptr);
  EXPECT_EQ(X509_verify(issued, X509_get0_pubkey(issuer)), 1);
  EXPECT_EQ(X509_check_issued(issuer, issued), X509_V_OK);
  EXPECT_EQ(X509_check_ca(issuer), 1);
  EXPECT_EQ(X509_check_ca(issued), 0);
  EXPECT_EQ(X509_check_host(issued, "gpu1", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(issued, "gpu2", 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_ip_asc(issued, "10.0.0.3", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(issued, "::1", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(issued, "10.0.0.4", 0), 0);
  X509_free(issuer);
  X509_free(issued);
}

TEST_F(CertificatesTest, KnowsItsLastSecond) {
  const auto authority = MakeAuthority("authority", 10);
  ASSERT_TRUE(authority.ok()) << authority.status();
  const auto expiry_s = ExpiryOf(authority->certificate);
  ASSERT_TRUE(expiry_s.has_value());
  EXPECT_NEAR(*expiry_s, static_cast<double>(std::time(nullptr)) + 10 * 86400.0, 3600);
  EXPECT_FALSE(ExpiryOf("no PEM").has_value());
}

TEST_F(CertificatesTest, SaysWhatDoesNotFit) {
  const auto one = MakeAuthority("one", 10), other = MakeAuthority("other", 10);
  const auto why = [](const KeyPair& pair) { return std::string(CheckKeyPair(pair).message()); };
  EXPECT_THAT(why({one->certificate, other->key}), HasSubstr("not the certificate's"));
  EXPECT_THAT(why({"", one->key}), HasSubstr("the certificate is no PEM"));
  EXPECT_THAT(why({one->certificate, "x"}), HasSubstr("the private key is no PEM"));
  const auto expired = MakeAuthority("expired", -1);
  ASSERT_TRUE(expired.ok()) << expired.status();
  EXPECT_THAT(why(*expired), HasSubstr("has expired"));
  EXPECT_TRUE(absl::IsInvalidArgument(IssueCertificate(*one, "s", {"no host!"}, 5).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(IssueCertificate(*expired, "s", {"a"}, 5).status()));
}

}  // namespace
}  // namespace imageddpo
