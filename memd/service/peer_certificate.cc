#include "memd/service/peer_certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <string_view>
#include <utility>

#include "base/status.h"
#include "memd/service/peer_card.h"

namespace agentmem {
namespace {

constexpr std::string_view kUriPrefix = "spiffe://agentmem/";
constexpr std::string_view kUriNode = "/node/";
constexpr std::size_t kCertificatesMax = 64;
constexpr std::size_t kUrisShownMax = 3;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
  void operator()(X509_STORE_CTX* context) const {
    X509_STORE_CTX_free(context);
  }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
  // What it points to belongs to others.
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// gRPC's TLS runs in these threads and takes an error that is left in the queue
// for its own.
class NoErrorsLeft {
 public:
  NoErrorsLeft() { ERR_clear_error(); }
  ~NoErrorsLeft() { ERR_clear_error(); }
  NoErrorsLeft(const NoErrorsLeft&) = delete;
  NoErrorsLeft& operator=(const NoErrorsLeft&) = delete;
};

// A key that asks for a passphrase is refused: nobody is there to type it.
int NoPassphrase(char*, int, int, void*) { return -1; }

std::string LastError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason == nullptr ? "no PEM block found" : reason;
}

Owned<BIO> Open(const std::string& text) {
  return Owned<BIO>(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::StatusOr<std::vector<Owned<X509>>> ParseChain(const std::string& text) {
  const Owned<BIO> bio = Open(text);
  std::vector<Owned<X509>> chain;
  while (chain.size() < kCertificatesMax) {
    Owned<X509> next(
        PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (next == nullptr) break;
    chain.push_back(std::move(next));
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM &&
                      ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (chain.empty() || (chain.size() < kCertificatesMax && !at_end)) {
    return InvalidArgument("certificate " + std::to_string(chain.size() + 1) +
                           " cannot be read as PEM: " + LastError());
  }
  return chain;
}

std::string SubjectOf(X509* certificate) {
  char text[256] = {};
  X509_NAME_oneline(X509_get_subject_name(certificate), text, sizeof(text));
  return Shown(text);
}

std::string IssuerOf(X509* certificate) {
  char text[256] = {};
  X509_NAME_oneline(X509_get_issuer_name(certificate), text, sizeof(text));
  return Shown(text);
}

std::vector<std::string> UrisOf(X509* certificate) {
  std::vector<std::string> uris;
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (names == nullptr) return uris;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                      static_cast<std::size_t>(ASN1_STRING_length(uri)));
  }
  return uris;
}

std::string ShownUris(const std::vector<std::string>& uris) {
  std::string text;
  for (std::size_t i = 0; i < uris.size() && i < kUrisShownMax; ++i) {
    text += (i == 0 ? "" : ", ") + Shown(uris[i]);
  }
  return text + (uris.size() > kUrisShownMax ? ", ..." : "");
}

}  // namespace

std::string PeerUri(const std::string& cluster, const std::string& node) {
  return std::string(kUriPrefix) + cluster + std::string(kUriNode) + node;
}

absl::StatusOr<std::vector<std::string>> CertificateUris(
    const std::string& certificate) {
  const NoErrorsLeft clean;
  AGENTMEM_ASSIGN_OR_RETURN(const auto chain, ParseChain(certificate));
  return UrisOf(chain.front().get());
}

absl::StatusOr<PeerName> CertificateName(const std::string& certificate,
                                         const std::string& wanted) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::string> uris,
                            CertificateUris(certificate));
  if (uris.size() != 1) {
    return PermissionDenied("the certificate shows " +
                            std::to_string(uris.size()) + " URI names" +
                            (uris.empty() ? "" : " (" + ShownUris(uris) + ")") +
                            ", wanted is exactly one, " + wanted);
  }
  const std::string& uri = uris.front();
  const std::size_t middle = uri.find(kUriNode, kUriPrefix.size());
  if (uri.compare(0, kUriPrefix.size(), kUriPrefix) == 0 &&
      middle != std::string::npos) {
    PeerName name{uri.substr(kUriPrefix.size(), middle - kUriPrefix.size()),
                  uri.substr(middle + kUriNode.size())};
    if (CheckPeerName("cluster", name.cluster).ok() &&
        CheckPeerName("node", name.node).ok()) {
      return name;
    }
  }
  return PermissionDenied("the certificate shows the URI name " + Shown(uri) +
                          ", wanted is " + wanted);
}

absl::Status CheckPrivateKey(const std::string& certificate,
                             const std::string& key) {
  const NoErrorsLeft clean;
  AGENTMEM_ASSIGN_OR_RETURN(const auto chain, ParseChain(certificate));
  const Owned<BIO> bio = Open(key);
  const Owned<EVP_PKEY> parsed(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (parsed == nullptr) {
    return InvalidArgument("no private key without a passphrase, in PEM: " +
                           LastError());
  }
  if (X509_check_private_key(chain.front().get(), parsed.get()) != 1) {
    return InvalidArgument("is not the key of the certificate of " +
                           SubjectOf(chain.front().get()) + ": " + LastError());
  }
  return absl::OkStatus();
}

struct PeerAuthority::Impl {
  Owned<X509_STORE> store;
  std::string names;  // for people
};

PeerAuthority::PeerAuthority(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
PeerAuthority::~PeerAuthority() = default;

absl::StatusOr<std::shared_ptr<const PeerAuthority>> PeerAuthority::Parse(
    const std::string& authorities) {
  const NoErrorsLeft clean;
  AGENTMEM_ASSIGN_OR_RETURN(const auto chain, ParseChain(authorities));
  auto impl = std::make_unique<Impl>();
  impl->store.reset(X509_STORE_new());
  for (const Owned<X509>& certificate : chain) {
    if (impl->store == nullptr ||
        X509_STORE_add_cert(impl->store.get(), certificate.get()) != 1) {
      return InvalidArgument("cannot be used as an authority: " +
                             SubjectOf(certificate.get()) + ": " + LastError());
    }
    if (impl->names.size() < 256) {
      impl->names +=
          (impl->names.empty() ? "" : ", ") + SubjectOf(certificate.get());
    }
  }
  // An intermediate in the file is trusted as it stands, as gRPC does.
  X509_STORE_set_flags(impl->store.get(),
                       X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  return std::shared_ptr<const PeerAuthority>(
      new PeerAuthority(std::move(impl)));
}

const std::string& PeerAuthority::names() const { return impl_->names; }

absl::Status PeerAuthority::Verify(const std::string& chain,
                                   PeerRole role) const {
  const NoErrorsLeft clean;
  AGENTMEM_ASSIGN_OR_RETURN(const auto parsed, ParseChain(chain));
  const Owned<STACK_OF(X509)> others(sk_X509_new_null());
  for (std::size_t i = 1; i < parsed.size(); ++i) {
    sk_X509_push(others.get(), parsed[i].get());
  }
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  X509* const first = parsed.front().get();
  if (others == nullptr || context == nullptr ||
      X509_STORE_CTX_init(context.get(), impl_->store.get(), first,
                          others.get()) != 1 ||
      X509_STORE_CTX_set_default(context.get(), role == PeerRole::kClient
                                                    ? "ssl_client"
                                                    : "ssl_server") != 1) {
    return Internal("checking a certificate failed in libcrypto: " +
                    LastError());
  }
  if (X509_verify_cert(context.get()) == 1) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(context.get());
  return MakeStatus(absl::StatusCode::kUnauthenticated,
                    "the certificate of " + SubjectOf(first) + " (" +
                        ShownUris(UrisOf(first)) + "), signed by " +
                        IssuerOf(first) + ", is not accepted as a " +
                        (role == PeerRole::kClient ? "client" : "server") +
                        "'s: " + X509_verify_cert_error_string(error) +
                        "; wanted is one signed by " + impl_->names);
}

}  // namespace agentmem
