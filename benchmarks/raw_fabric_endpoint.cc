#include "benchmarks/raw_fabric_endpoint.h"

#include <poll.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "base/status.h"

namespace agentmem::bench {
namespace {

constexpr DurationNs kPatienceNs = 30 * kSecondNs;
constexpr std::uint64_t kWindowKey = 1;  // where keys are the program's choice

absl::Status FabricStatus(const char* what, std::int64_t code) {
  return Unavailable(std::string("raw libfabric: ") + what + ": " +
                     fi_strerror(static_cast<int>(-code)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RawEndpoint>> RawEndpoint::Open(
    const RawFabricOptions& options) {
  std::unique_ptr<RawEndpoint> raw(new RawEndpoint(options));
  AGENTMEM_RETURN_IF_ERROR(raw->OpenDomain());
  AGENTMEM_RETURN_IF_ERROR(raw->OpenEndpoint());
  AGENTMEM_RETURN_IF_ERROR(raw->MapWindow());
  for (fi_context2& context : raw->contexts_) {
    raw->free_contexts_.push_back(&context);
  }
  return raw;
}

absl::Status RawEndpoint::OpenDomain() {
  fi_info* const hints = fi_allocinfo();
  if (hints == nullptr) return ResourceExhausted("raw libfabric: fi_allocinfo");
  hints->caps = FI_RMA | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
  hints->ep_attr->type = FI_EP_RDM;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->addr_format = FI_SOCKADDR_IN;
  hints->domain_attr->mr_mode =
      FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  hints->fabric_attr->prov_name = ::strdup(options_.provider);
  const int found = fi_getinfo(FI_VERSION(1, 17), options_.address, nullptr,
                               FI_SOURCE, hints, &info_);
  fi_freeinfo(hints);
  if (found != 0) return FabricStatus(options_.provider, found);
  if (const int code = fi_fabric(info_->fabric_attr, &fabric_, nullptr)) {
    return FabricStatus("fi_fabric", code);
  }
  if (const int code = fi_domain(fabric_, info_, &domain_, nullptr)) {
    return FabricStatus("fi_domain", code);
  }
  return absl::OkStatus();
}

absl::Status RawEndpoint::OpenEndpoint() {
  fi_av_attr addresses = {};
  addresses.type = FI_AV_TABLE;
  if (const int code = fi_av_open(domain_, &addresses, &addresses_, nullptr)) {
    return FabricStatus("fi_av_open", code);
  }
  fi_cq_attr completions = {};
  completions.format = FI_CQ_FORMAT_CONTEXT;
  completions.wait_obj = FI_WAIT_FD;
  completions.size = 2 * kDepthMax;
  if (const int code =
          fi_cq_open(domain_, &completions, &completions_, nullptr)) {
    return FabricStatus("fi_cq_open", code);
  }
  if (const int code = fi_endpoint(domain_, info_, &endpoint_, nullptr)) {
    return FabricStatus("fi_endpoint", code);
  }
  int code = fi_ep_bind(endpoint_, &addresses_->fid, 0);
  if (code == 0) {
    code = fi_ep_bind(endpoint_, &completions_->fid, FI_TRANSMIT | FI_RECV);
  }
  if (code == 0) code = fi_enable(endpoint_);
  if (code == 0) code = fi_control(&completions_->fid, FI_GETWAIT, &wait_fd_);
  std::size_t length = sizeof(self_.address);
  if (code == 0) code = fi_getname(&endpoint_->fid, self_.address, &length);
  return code == 0 ? absl::OkStatus()
                   : FabricStatus("setting an endpoint up", code);
}

absl::Status RawEndpoint::MapWindow() {
  // Shared, so that a fork could not move it away from under the provider.
  void* const memory =
      ::mmap(nullptr, options_.window_bytes, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus("memory for raw libfabric");
  window_ = static_cast<char*>(memory);
  const std::uint64_t access =
      FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
  const int code = fi_mr_reg(domain_, window_, options_.window_bytes, access, 0,
                             kWindowKey, 0, &region_, nullptr);
  if (code != 0) return FabricStatus("fi_mr_reg", code);
  self_.key = fi_mr_key(region_);
  if ((info_->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0) {
    self_.base = reinterpret_cast<std::uint64_t>(window_);
  }
  return absl::OkStatus();
}

RawEndpoint::~RawEndpoint() {
  if (endpoint_ != nullptr) fi_close(&endpoint_->fid);
  if (region_ != nullptr) fi_close(&region_->fid);
  if (completions_ != nullptr) fi_close(&completions_->fid);
  if (addresses_ != nullptr) fi_close(&addresses_->fid);
  if (domain_ != nullptr) fi_close(&domain_->fid);
  if (fabric_ != nullptr) fi_close(&fabric_->fid);
  if (info_ != nullptr) fi_freeinfo(info_);
  if (window_ != nullptr) ::munmap(window_, options_.window_bytes);
}

absl::Status RawEndpoint::UsePeer(const RawFabricPeer& peer) {
  peer_ = peer;
  const int inserted =
      fi_av_insert(addresses_, peer_.address, 1, &peer_address_, 0, nullptr);
  if (inserted == 1) return absl::OkStatus();
  return FabricStatus("fi_av_insert", inserted);
}

absl::Status RawEndpoint::Post(Kind kind, std::uint64_t offset,
                               std::size_t length) {
  AGENTMEM_CHECK(!free_contexts_.empty());
  fi_context2* const context = free_contexts_.back();
  iovec here = {window_ + offset, length};
  fi_rma_iov there = {peer_.base + offset, length, peer_.key};
  void* descriptor = fi_mr_desc(region_);
  fi_msg_rma message = {};
  message.msg_iov = &here;
  message.desc = &descriptor;
  message.iov_count = 1;
  message.addr = peer_address_;
  message.rma_iov = &there;
  message.rma_iov_count = 1;
  message.context = context;
  const TimeNs give_up = MonotonicNowNs() + kPatienceNs;
  for (;;) {
    const ssize_t code =
        kind == Kind::kRead ? fi_readmsg(endpoint_, &message, FI_COMPLETION)
                            : fi_writemsg(endpoint_, &message,
                                          FI_COMPLETION | FI_DELIVERY_COMPLETE);
    if (code == 0) break;
    if (code != -FI_EAGAIN) return FabricStatus("posting", code);
    if (MonotonicNowNs() > give_up) {
      return DeadlineExceeded("raw libfabric: nothing can be posted for 30 s");
    }
    // Not connected yet, or full: looking is what helps.
    AGENTMEM_RETURN_IF_ERROR(Look().status());
  }
  free_contexts_.pop_back();
  return absl::OkStatus();
}

absl::StatusOr<std::size_t> RawEndpoint::Look() {
  fi_cq_entry entries[16];
  const ssize_t count = fi_cq_read(completions_, entries, 16);
  if (count == -FI_EAGAIN) return 0;
  if (count == -FI_EAVAIL) {
    fi_cq_err_entry error = {};
    fi_cq_readerr(completions_, &error, 0);
    return FabricStatus("an operation", -error.err);
  }
  if (count < 0) return FabricStatus("fi_cq_read", count);
  for (ssize_t i = 0; i < count; ++i) {
    free_contexts_.push_back(static_cast<fi_context2*>(entries[i].op_context));
  }
  done_ += static_cast<std::size_t>(count);
  return static_cast<std::size_t>(count);
}

bool RawEndpoint::MaySleep() {
  fid* const queue = &completions_->fid;
  fid* queues[] = {queue};
  return fi_trywait(fabric_, queues, 1) == FI_SUCCESS;
}

absl::Status RawEndpoint::WaitForCompletion() {
  TimeNs last_work = MonotonicNowNs();
  const TimeNs give_up = last_work + kPatienceNs;
  for (;;) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::size_t ended, Look());
    if (ended != 0) return absl::OkStatus();
    const TimeNs now = MonotonicNowNs();
    if (now > give_up) {
      return DeadlineExceeded("raw libfabric: nothing completes for 30 s");
    }
    if (now - last_work < options_.spin_ns || !MaySleep()) continue;
    pollfd news = {wait_fd_, POLLIN, 0};
    ::poll(&news, 1, 1000);
    last_work = MonotonicNowNs();
  }
}

absl::Status RawEndpoint::ServeUntil(int socket) {
  TimeNs last_work = MonotonicNowNs();
  for (;;) {
    AGENTMEM_RETURN_IF_ERROR(Look().status());
    if (MonotonicNowNs() - last_work < options_.spin_ns || !MaySleep()) {
      continue;
    }
    pollfd news[] = {{wait_fd_, POLLIN, 0}, {socket, POLLIN, 0}};
    ::poll(news, 2, -1);
    if (news[1].revents != 0) return absl::OkStatus();
    last_work = MonotonicNowNs();
  }
}

}  // namespace agentmem::bench
