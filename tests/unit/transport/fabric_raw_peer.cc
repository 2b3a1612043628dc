#include "tests/unit/transport/fabric_raw_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <rdma/fi_tagged.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "base/check.h"

namespace agentmem {
namespace {

constexpr int kDescriptorsMax = 4096;

}  // namespace

FabricRawPeer::FabricRawPeer(const FabricOptions& options) {
  const auto choice = ChooseFabric(options, LibfabricCatalog(options));
  AGENTMEM_CHECK(choice.ok());
  provider_ = choice->provider;
  fi_info* const info = choice->info.get();
  info->caps |= FI_TAGGED;
  info->tx_attr->caps |= FI_TAGGED;
  info->rx_attr->caps |= FI_TAGGED;
  auto domain = FabricDomain::Open(choice->info);
  AGENTMEM_CHECK(domain.ok());
  domain_ = std::move(domain).value();
  auto buffer = domain_->MakeBuffer(kBufferBytes);
  AGENTMEM_CHECK(buffer.ok());
  buffer_ = std::move(buffer).value();
  fid_mr* writable = nullptr;
  AGENTMEM_CHECK(fi_mr_reg(domain_->domain(), buffer_.bytes.get(), kBufferBytes,
                           FI_READ | FI_WRITE | FI_SEND, 0, /*key=*/77, 0,
                           &writable, nullptr) == 0);
  writable_.reset(writable);
  auto endpoint = FabricEndpoint::Open(domain_.get(), kCompletions);
  AGENTMEM_CHECK(endpoint.ok());
  endpoint_ = std::move(endpoint).value();
}

std::string FabricRawPeer::NameIn(const std::string& address) {
  return address.substr(address.find('\0') + 1);
}

std::string FabricRawPeer::address() const {
  return '\1' + provider_ + '\0' + *endpoint_->Name();
}

std::string FabricRawPeer::WithPort(std::string like, std::uint16_t port) {
  sockaddr_in address = {};
  AGENTMEM_CHECK(like.size() >= sizeof(address));
  std::memcpy(&address, like.data(), sizeof(address));
  AGENTMEM_CHECK(address.sin_family == AF_INET);
  address.sin_port = htons(port);
  std::memcpy(like.data(), &address, sizeof(address));
  return like;
}

fi_addr_t FabricRawPeer::Insert(const std::string& name) {
  const auto peer = endpoint_->Insert(name);
  AGENTMEM_CHECK(peer.ok());
  return *peer;
}

bool FabricRawPeer::Posted(ssize_t result) {
  AGENTMEM_CHECK(result == 0 || result == -FI_EAGAIN);
  posted_ += result == 0;
  if (result != 0) Poll();
  return result == 0;
}

bool FabricRawPeer::WriteWithData(fi_addr_t to, const RemoteMemory& remote,
                                  std::uint64_t bytes) {
  return Posted(fi_writedata(endpoint_->get(), buffer_.bytes.get(), bytes,
                             fi_mr_desc(writable_.get()), /*data=*/1234, to,
                             remote.address, remote.key,
                             &contexts_[posted_ % kCompletions]));
}

bool FabricRawPeer::SendTagged(fi_addr_t to, std::uint64_t tag,
                               std::uint64_t bytes) {
  return Posted(fi_tsend(endpoint_->get(), buffer_.bytes.get(), bytes,
                         fi_mr_desc(writable_.get()), to, tag,
                         &contexts_[posted_ % kCompletions]));
}

bool FabricRawPeer::Send(fi_addr_t to, std::uint64_t bytes) {
  return Posted(fi_send(endpoint_->get(), buffer_.bytes.get(), bytes,
                        fi_mr_desc(writable_.get()), to,
                        &contexts_[posted_ % kCompletions]));
}

void FabricRawPeer::Poll() {
  std::array<fi_cq_msg_entry, 16> entries;
  const ssize_t read =
      fi_cq_read(endpoint_->completions(), entries.data(), entries.size());
  if (read > 0) completed_ += static_cast<std::uint64_t>(read);
  if (read != -FI_EAVAIL) return;
  fi_cq_err_entry error = {};
  if (fi_cq_readerr(endpoint_->completions(), &error, 0) > 0) ++failed_;
}

std::set<std::uint16_t> ListeningPorts() {
  std::set<std::uint16_t> ports;
  for (int fd = 0; fd < kDescriptorsMax; ++fd) {
    int listens = 0;
    socklen_t bytes = sizeof(listens);
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 ||
        listens == 0) {
      continue;
    }
    sockaddr_in address = {};
    bytes = sizeof(address);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
        address.sin_family == AF_INET) {
      ports.insert(ntohs(address.sin_port));
    }
  }
  return ports;
}

}  // namespace agentmem
