#include "tests/unit/service/peer_certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

#include "base/check.h"

namespace agentmem {
namespace {

EVP_PKEY* MakeKey() {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  AGENTMEM_CHECK(key != nullptr);
  return key;
}

void Extend(X509* certificate, X509* issuer, int what,
            const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension =
      X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
  AGENTMEM_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* MakeCertificate(const std::string& subject, long seconds_from,
                      long seconds_to, EVP_PKEY* key) {
  X509* const certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  std::int64_t serial = 0;
  AGENTMEM_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), 7) == 1);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), seconds_from);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds_to);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
      reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
  X509_set_pubkey(certificate, key);
  return certificate;
}

std::string Text(BIO* bio) {
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, static_cast<std::size_t>(length));
  BIO_free(bio);
  return text;
}

std::string CertificateText(X509* certificate) {
  BIO* const bio = BIO_new(BIO_s_mem());
  AGENTMEM_CHECK(PEM_write_bio_X509(bio, certificate) == 1);
  return Text(bio);
}

std::string KeyText(EVP_PKEY* key) {
  BIO* const bio = BIO_new(BIO_s_mem());
  AGENTMEM_CHECK(PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0,
                                          nullptr, nullptr) == 1);
  return Text(bio);
}

}  // namespace

struct TestAuthority::Impl {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
  std::string text;
};

TestAuthority::TestAuthority(const std::string& name)
    : impl_(std::make_unique<Impl>()) {
  impl_->key = MakeKey();
  impl_->certificate = MakeCertificate(name, -7200, 7200, impl_->key);
  X509_set_issuer_name(impl_->certificate,
                       X509_get_subject_name(impl_->certificate));
  Extend(impl_->certificate, impl_->certificate, NID_basic_constraints,
         "critical,CA:TRUE");
  Extend(impl_->certificate, impl_->certificate, NID_key_usage,
         "critical,keyCertSign,cRLSign");
  AGENTMEM_CHECK(X509_sign(impl_->certificate, impl_->key, EVP_sha256()) > 0);
  impl_->text = CertificateText(impl_->certificate);
}

TestAuthority::~TestAuthority() {
  X509_free(impl_->certificate);
  EVP_PKEY_free(impl_->key);
}

const std::string& TestAuthority::certificate() const { return impl_->text; }

TestCertificate TestAuthority::Sign(
    const TestCertificateOptions& options) const {
  EVP_PKEY* const key = MakeKey();
  X509* const certificate = MakeCertificate("test node", options.seconds_from,
                                            options.seconds_to, key);
  X509_set_issuer_name(certificate, X509_get_subject_name(impl_->certificate));
  std::string names = "DNS:test.invalid";
  for (const std::string& uri : options.uris) names += ",URI:" + uri;
  Extend(certificate, impl_->certificate, NID_subject_alt_name, names);
  if (!options.extended_usage.empty()) {
    Extend(certificate, impl_->certificate, NID_ext_key_usage,
           options.extended_usage);
  }
  AGENTMEM_CHECK(X509_sign(certificate, impl_->key, EVP_sha256()) > 0);
  TestCertificate made{CertificateText(certificate), KeyText(key)};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return made;
}

TestCertificate TestAuthority::SignNode(const std::string& cluster,
                                        const std::string& node) const {
  TestCertificateOptions options;
  options.uris = {"spiffe://agentmem/" + cluster + "/node/" + node};
  return Sign(options);
}

void WriteTestFile(const std::string& path, const std::string& text,
                   unsigned mode) {
  const std::string fresh = path + ".new";
  std::ofstream(fresh, std::ios::binary) << text;
  AGENTMEM_CHECK(::chmod(fresh.c_str(), mode) == 0);
  AGENTMEM_CHECK(::rename(fresh.c_str(), path.c_str()) == 0);
}

PeerFiles WritePeerFiles(const std::string& directory, const std::string& name,
                         const TestCertificate& own,
                         const std::string& authority) {
  const std::string base = directory + "/" + name;
  const PeerFiles files{base + ".crt", base + ".key", base + ".ca"};
  WriteTestFile(files.certificate, own.certificate, 0644);
  WriteTestFile(files.key, own.key, 0600);
  WriteTestFile(files.authority, authority, 0644);
  return files;
}

}  // namespace agentmem
