#include "memd/service/peer_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <utility>

#include "base/status.h"

namespace agentmem {
namespace {

// gRPC's C++ layer has no server whose certificate, key and authority change
// together; its C layer has, and asks before each handshake.
class ReloadingServerCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingServerCredentials(std::shared_ptr<PeerSecurity> security)
      : security_(std::move(security)) {
    grpc_init();
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, &Fetch,
            this));
  }
  ~ReloadingServerCredentials() override {
    grpc_server_credentials_release(credentials_);
    grpc_shutdown();
  }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // One call at a time: gRPC holds its lock, and there is one port.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto* const credentials = static_cast<ReloadingServerCredentials*>(self);
    const std::shared_ptr<const PeerCredentials> now =
        credentials->security_->Current();
    if (now->version == credentials->version_) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair = {now->key.c_str(),
                                             now->certificate.c_str()};
    *config = grpc_ssl_server_certificate_config_create(now->authority.c_str(),
                                                        &pair, 1);
    credentials->version_ = now->version;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<PeerSecurity> security_;
  grpc_server_credentials* credentials_ = nullptr;
  std::uint64_t version_ = 0;  // that gRPC has
};

class NodeVerifier final
    : public grpc::experimental::ExternalCertificateVerifier {
 public:
  NodeVerifier(std::string uri, std::shared_ptr<PeerVerdict> verdict)
      : uri_(std::move(uri)), verdict_(std::move(verdict)) {}

  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)>,
              grpc::Status* sync_status) override {
    const grpc::string_ref certificate = request->peer_cert();
    const absl::Status status =
        Check(std::string(certificate.data(), certificate.size()));
    verdict_->Set(status);
    *sync_status = status.ok()
                       ? grpc::Status::OK
                       : grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                                      kPeerRefusedMark);
    return true;
  }
  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {
  }

 private:
  absl::Status Check(const std::string& certificate) const {
    AGENTMEM_ASSIGN_OR_RETURN(const PeerName name,
                              CertificateName(certificate, uri_));
    const std::string shown = PeerUri(name.cluster, name.node);
    if (shown == uri_) return absl::OkStatus();
    return PermissionDenied("the certificate shows the URI name " + shown +
                            ", wanted is " + uri_);
  }

  const std::string uri_;
  const std::shared_ptr<PeerVerdict> verdict_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakePeerServerCredentials(
    std::shared_ptr<PeerSecurity> security) {
  if (security->insecure()) return grpc::InsecureServerCredentials();
  return std::make_shared<ReloadingServerCredentials>(std::move(security));
}

std::shared_ptr<grpc::ChannelCredentials> MakePeerChannelCredentials(
    const PeerCredentials& credentials, const std::string& uri,
    std::shared_ptr<PeerVerdict> verdict) {
  namespace tls = grpc::experimental;
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<tls::StaticDataCertificateProvider>(
          credentials.authority,
          std::vector<tls::IdentityKeyCertPair>{
              {credentials.key, credentials.certificate}}));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(true);
  // Host names mean nothing: the verifier looks at the URI name instead.
  options.set_check_call_host(false);
  options.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<NodeVerifier>(
          uri, std::move(verdict)));
  return tls::TlsCredentials(options);
}

}  // namespace agentmem
