#include "memd/service/peer_security.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "memd/service/peer_card.h"

namespace agentmem {
namespace {

constexpr std::size_t kFileBytesMax = 256 << 10;

// "the peers' key file PATH: cause", under the cause's code.
absl::Status Named(const std::string& what, const std::string& path,
                   const absl::Status& cause) {
  return MakeStatus(cause.code(), "the peers' " + what + " file " + path +
                                      ": " + StatusMessage(cause));
}

absl::Status CheckMode(const struct stat& status, bool secret) {
  if (!S_ISREG(status.st_mode)) return InvalidArgument("is no regular file");
  if (!secret || (status.st_mode & 0007) == 0) return absl::OkStatus();
  char mode[8];
  std::snprintf(mode, sizeof(mode), "%04o", status.st_mode & 07777);
  return PermissionDenied(std::string("has mode ") + mode +
                          ", everybody may use it: run chmod 0600 on it");
}

absl::Status ReadFile(const std::string& path, bool secret, std::string* text) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("cannot be opened");
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) return ErrnoStatus("fstat");
  AGENTMEM_RETURN_IF_ERROR(CheckMode(status, secret));
  text->assign(kFileBytesMax + 1, 0);
  std::size_t bytes = 0;
  while (bytes < text->size()) {
    const ssize_t got =
        ::read(fd.get(), text->data() + bytes, text->size() - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus("cannot be read");
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  if (bytes > kFileBytesMax) {
    return InvalidArgument("has more than " + std::to_string(kFileBytesMax) +
                           " bytes");
  }
  text->resize(bytes);
  return absl::OkStatus();
}

}  // namespace

PeerCredentials::~PeerCredentials() { OPENSSL_cleanse(key.data(), key.size()); }

PeerSecurity::PeerSecurity(PeerFiles files, std::string uri)
    : files_(std::move(files)), uri_(std::move(uri)) {}

std::shared_ptr<PeerSecurity> PeerSecurity::Insecure() {
  return std::shared_ptr<PeerSecurity>(new PeerSecurity({}, ""));
}

absl::StatusOr<std::shared_ptr<PeerSecurity>> PeerSecurity::FromFiles(
    const PeerFiles& files, const std::string& cluster,
    const std::string& node) {
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("cluster", cluster));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("node", node));
  if (files.certificate.empty() || files.key.empty() ||
      files.authority.empty()) {
    return InvalidArgument(
        "mutual TLS between peers takes three files, certificate \"" +
        files.certificate + "\", key \"" + files.key + "\" and authority \"" +
        files.authority + "\": give all of them, or choose insecure");
  }
  std::shared_ptr<PeerSecurity> security(
      new PeerSecurity(files, PeerUri(cluster, node)));
  AGENTMEM_ASSIGN_OR_RETURN(const auto credentials, security->Read());
  AGENTMEM_RETURN_IF_ERROR(security->Check(credentials.get()));
  credentials->version = 1;
  MutexLock lock(&security->mutex_);
  security->current_ = credentials;
  return security;
}

std::shared_ptr<const PeerCredentials> PeerSecurity::Current() {
  const absl::StatusOr<std::shared_ptr<PeerCredentials>> read = Read();
  MutexLock lock(&mutex_);
  absl::Status status = read.status();
  if (read.ok()) {
    PeerCredentials* const fresh = read->get();
    if (fresh->certificate == current_->certificate &&
        fresh->key == current_->key &&
        fresh->authority == current_->authority) {
      complaint_.clear();
      return current_;
    }
    status = Check(fresh);
    if (status.ok()) {
      fresh->version = current_->version + 1;
      current_ = *read;
      complaint_.clear();
      LogInfo("peers' certificate, key and authority were read again from " +
              files_.certificate + ", " + files_.key + " and " +
              files_.authority);
      return current_;
    }
  }
  if (complaint_ != StatusMessage(status)) {
    complaint_ = StatusMessage(status);
    LogWarning(complaint_ + "; what was read before serves on");
  }
  return current_;
}

absl::StatusOr<std::shared_ptr<PeerCredentials>> PeerSecurity::Read() const {
  auto credentials = std::make_shared<PeerCredentials>();
  const absl::Status certificate =
      ReadFile(files_.certificate, false, &credentials->certificate);
  if (!certificate.ok()) {
    return Named("certificate", files_.certificate, certificate);
  }
  const absl::Status key = ReadFile(files_.key, true, &credentials->key);
  if (!key.ok()) return Named("key", files_.key, key);
  const absl::Status authority =
      ReadFile(files_.authority, false, &credentials->authority);
  if (!authority.ok()) return Named("authority", files_.authority, authority);
  return credentials;
}

absl::Status PeerSecurity::Check(PeerCredentials* credentials) const {
  auto trusted = PeerAuthority::Parse(credentials->authority);
  if (!trusted.ok()) {
    return Named("authority", files_.authority, trusted.status());
  }
  const absl::StatusOr<PeerName> name =
      CertificateName(credentials->certificate, uri_);
  if (!name.ok()) {
    return Named("certificate", files_.certificate, name.status());
  }
  if (PeerUri(name->cluster, name->node) != uri_) {
    return Named("certificate", files_.certificate,
                 InvalidArgument("shows the URI name " +
                                 PeerUri(name->cluster, name->node) +
                                 ", this node's is " + uri_));
  }
  const absl::Status key =
      CheckPrivateKey(credentials->certificate, credentials->key);
  if (!key.ok()) return Named("key", files_.key, key);
  for (const PeerRole role : {PeerRole::kClient, PeerRole::kServer}) {
    const absl::Status signed_by =
        (*trusted)->Verify(credentials->certificate, role);
    if (!signed_by.ok()) {
      return Named("certificate", files_.certificate, signed_by);
    }
  }
  credentials->trusted = *trusted;
  return absl::OkStatus();
}

}  // namespace agentmem
