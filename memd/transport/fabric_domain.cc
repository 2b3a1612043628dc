#include "memd/transport/fabric_domain.h"

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace agentmem {
namespace {

// Two keys of 64 random bits are never equal; narrower ones may be.
constexpr int kKeyTries = 16;
constexpr DurationNs kLookNs = kMillisecondNs;

absl::StatusOr<std::uint64_t> RandomKey(std::size_t bytes) {
  std::uint64_t key = 0;
  bytes = std::min(bytes, sizeof(key));
  if (getrandom(&key, bytes, 0) != static_cast<ssize_t>(bytes)) {
    return ErrnoStatus("random bytes for a memory key");
  }
  return key;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FabricDomain>> FabricDomain::Open(
    std::shared_ptr<fi_info> info) {
  std::unique_ptr<FabricDomain> domain(new FabricDomain(std::move(info)));
  AGENTMEM_RETURN_IF_ERROR(domain->OpenObjects());
  return domain;
}

absl::Status FabricDomain::OpenObjects() {
  const std::string name = std::string("fabric provider ") +
                           info_->fabric_attr->prov_name + ", domain " +
                           info_->domain_attr->name;
  fid_fabric* fabric = nullptr;
  int result = fi_fabric(info_->fabric_attr, &fabric, nullptr);
  if (result != 0) return FabricStatus(name + " does not open", result);
  fabric_.reset(fabric);

  fid_domain* domain = nullptr;
  result = fi_domain(fabric, info_.get(), &domain, nullptr);
  if (result != 0) return FabricStatus(name + " does not open", result);
  domain_.reset(domain);

  wait_fd_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!wait_fd_.valid()) return ErrnoStatus("epoll");
  return CheckNoRegistrationCache();
}

absl::StatusOr<FabricHandle<fid_cq>> FabricDomain::OpenQueue(
    std::size_t completions) {
  fi_cq_attr attributes = {};
  attributes.size = completions;
  attributes.format = FI_CQ_FORMAT_MSG;
  attributes.wait_obj = FI_WAIT_FD;
  fid_cq* opened = nullptr;
  int result = fi_cq_open(domain_.get(), &attributes, &opened, nullptr);
  if (result == -FI_ENOSYS) {
    AGENTMEM_RETURN_IF_ERROR(StartTimer());
    attributes.wait_obj = FI_WAIT_NONE;
    result = fi_cq_open(domain_.get(), &attributes, &opened, nullptr);
  }
  if (result != 0) return FabricStatus("opening a completion queue", result);
  FabricHandle<fid_cq> queue(opened);
  if (attributes.wait_obj != FI_WAIT_FD) return queue;
  int descriptor = -1;
  result = fi_control(&opened->fid, FI_GETWAIT, &descriptor);
  if (result != 0) {
    return FabricStatus("a completion queue to wait on", result);
  }
  epoll_event event = {};
  event.events = EPOLLIN;
  if (epoll_ctl(wait_fd_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) {
    return ErrnoStatus("waiting on a completion queue");
  }
  queues_.push_back(&opened->fid);
  return queue;
}

absl::Status FabricDomain::StartTimer() {
  waitable_ = false;
  if (timer_.valid()) return absl::OkStatus();
  timer_ =
      UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  const itimerspec each = {{0, kLookNs}, {0, kLookNs}};
  epoll_event event = {};
  event.events = EPOLLIN;
  if (!timer_.valid() ||
      timerfd_settime(timer_.get(), 0, &each, nullptr) != 0 ||
      epoll_ctl(wait_fd_.get(), EPOLL_CTL_ADD, timer_.get(), &event) != 0) {
    return ErrnoStatus("a timer for a network that cannot be waited on");
  }
  return absl::OkStatus();
}

void FabricDomain::CloseQueue(FabricHandle<fid_cq> queue) {
  if (queue == nullptr) return;
  const auto known = std::find(queues_.begin(), queues_.end(), &queue->fid);
  if (known == queues_.end()) return;
  queues_.erase(known);
  int descriptor = -1;
  if (fi_control(&queue->fid, FI_GETWAIT, &descriptor) == 0) {
    epoll_ctl(wait_fd_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
  }
}

absl::Status FabricDomain::CheckNoRegistrationCache() {
  if ((info_->domain_attr->mr_mode & FI_MR_PROV_KEY) == 0) {
    return absl::OkStatus();  // the keys are ours, one each
  }
  std::vector<char> memory(4096);
  AGENTMEM_ASSIGN_OR_RETURN(
      const FabricHandle<fid_mr> writable,
      RegisterRange(memory, FI_REMOTE_READ | FI_REMOTE_WRITE));
  AGENTMEM_ASSIGN_OR_RETURN(const FabricHandle<fid_mr> readable,
                            RegisterRange(memory, FI_REMOTE_READ));
  if (fi_mr_key(writable.get()) != fi_mr_key(readable.get())) {
    return absl::OkStatus();
  }
  return FailedPrecondition(
      "libfabric's cache of memory registrations is on: peers could write to "
      "what they may only read; set FI_MR_CACHE_MAX_COUNT=0 in the "
      "environment");
}

absl::StatusOr<FabricHandle<fid_mr>> FabricDomain::RegisterRange(
    std::span<char> range, std::uint64_t access) {
  fid_mr* registration = nullptr;
  int result = -FI_ENOKEY;
  for (int i = 0; i < kKeyTries && result == -FI_ENOKEY; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t key,
                              RandomKey(info_->domain_attr->mr_key_size));
    result = fi_mr_reg(domain_.get(), range.data(), range.size(), access,
                       /*offset=*/0, key, /*flags=*/0, &registration, nullptr);
  }
  if (result != 0) {
    const bool no_memory = result == -FI_ENOMEM;
    return FabricStatus(
        "registering " + std::to_string(range.size()) +
            " bytes of memory with the network" +
            (no_memory ? " (raise the limit of locked memory: ulimit -l, or "
                         "LimitMEMLOCK=infinity in the unit)"
                       : ""),
        result);
  }
  return FabricHandle<fid_mr>(registration);
}

absl::StatusOr<Registered> FabricDomain::Register(std::span<char> memory,
                                                  RemoteAccess access) {
  if (memory.empty()) return InvalidArgument("no memory to register: 0 bytes");
  std::uint64_t flags = FI_READ | FI_WRITE;
  if (access != RemoteAccess::kNone) flags |= FI_REMOTE_READ;
  if (access == RemoteAccess::kReadWrite) flags |= FI_REMOTE_WRITE;
  AGENTMEM_ASSIGN_OR_RETURN(FabricHandle<fid_mr> registration,
                            RegisterRange(memory, flags));
  Registered registered;
  if (access != RemoteAccess::kNone) {
    const bool by_pointer =
        (info_->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0;
    registered.remote.address =
        by_pointer ? reinterpret_cast<std::uint64_t>(memory.data()) : 0;
    registered.remote.key = fi_mr_key(registration.get());
    registered.remote.bytes = memory.size();
  }
  memory_.push_back({memory, std::move(registration)});
  registered.id = MemoryId(static_cast<std::uint32_t>(memory_.size()));
  return registered;
}

absl::StatusOr<FabricBuffer> FabricDomain::MakeBuffer(std::uint64_t bytes) {
  FabricBuffer buffer;
  buffer.bytes = std::make_unique<char[]>(bytes);
  AGENTMEM_ASSIGN_OR_RETURN(
      buffer.registration,
      RegisterRange({buffer.bytes.get(), bytes}, FI_SEND | FI_RECV));
  return buffer;
}

void* FabricDomain::DescriptorOf(MemoryId memory, const char* local,
                                 std::uint64_t length) const {
  AGENTMEM_CHECK(memory.value() >= 1 && memory.value() <= memory_.size());
  const Memory& found = memory_[memory.value() - 1];
  const char* const begin = found.bytes.data();
  AGENTMEM_CHECK(local >= begin && length <= found.bytes.size() &&
                 static_cast<std::uint64_t>(local - begin) <=
                     found.bytes.size() - length);
  return fi_mr_desc(found.registration.get());
}

bool FabricDomain::ReadyToWait() {
  if (!waitable_) {
    std::uint64_t times = 0;
    [[maybe_unused]] const ssize_t got =
        ::read(timer_.get(), &times, sizeof(times));
    return true;
  }
  return fi_trywait(fabric_.get(), queues_.data(),
                    static_cast<int>(queues_.size())) == FI_SUCCESS;
}

}  // namespace agentmem
