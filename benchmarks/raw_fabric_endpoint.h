// libfabric without anything of ours around it: one endpoint, one window of
// memory that the other side may read and write, one completion queue. What it
// costs is what the provider costs.
//
// It waits as memd does: it looks for so long, and then sleeps until the
// provider's descriptor says that there is something to look at.
//
// Ownership: owns the endpoint and the window. Threads: one; and none may have
// forked after Open. Errors: UNAVAILABLE and DEADLINE_EXCEEDED (nothing
// completes in 30 s) with libfabric's words. Cost: Open registers the window.
#ifndef AGENTMEM_BENCHMARKS_RAW_FABRIC_ENDPOINT_H_
#define AGENTMEM_BENCHMARKS_RAW_FABRIC_ENDPOINT_H_

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace agentmem::bench {

struct RawFabricOptions {
  char provider[32] = "tcp;ofi_rxm";
  char address[64] = "127.0.0.1";
  std::uint64_t window_bytes = 0;
  DurationNs spin_ns = 0;
};

// What one side tells the other, as bytes on a socket.
struct RawFabricPeer {
  char address[64];
  std::uint64_t base;  // of the window, as operations name it
  std::uint64_t key;
};

class RawEndpoint {
 public:
  enum class Kind : std::uint32_t { kRead, kWrite };
  static constexpr std::size_t kDepthMax = 64;

  static absl::StatusOr<std::unique_ptr<RawEndpoint>> Open(
      const RawFabricOptions& options);
  ~RawEndpoint();
  RawEndpoint(const RawEndpoint&) = delete;
  RawEndpoint& operator=(const RawEndpoint&) = delete;

  const RawFabricPeer& self() const { return self_; }
  absl::Status UsePeer(const RawFabricPeer& peer);
  char* window() const { return window_; }

  // `count` operations of `length` bytes, at most `depth` at a time. The i-th
  // is between the windows' offset(i), here and there alike. A write is over
  // when its bytes are there (FI_DELIVERY_COMPLETE).
  template <class Offset>
  absl::Status Transfer(Kind kind, std::size_t length, std::size_t count,
                        std::size_t depth, Offset&& offset) {
    std::size_t posted = 0;
    const std::size_t done_before = done_;
    while (done_ - done_before < count) {
      while (posted < count && posted - (done_ - done_before) < depth) {
        absl::Status status = Post(kind, offset(posted), length);
        if (!status.ok()) return status;
        ++posted;
      }
      absl::Status status = WaitForCompletion();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Lets the provider do what the other side asks of it, until `socket` has
  // something to say or is closed.
  absl::Status ServeUntil(int socket);

 private:
  explicit RawEndpoint(const RawFabricOptions& options) : options_(options) {}
  absl::Status OpenDomain();
  absl::Status OpenEndpoint();
  absl::Status MapWindow();
  absl::Status Post(Kind kind, std::uint64_t offset, std::size_t length);
  absl::Status WaitForCompletion();
  // How many operations have ended.
  absl::StatusOr<std::size_t> Look();
  // True: the descriptor may be slept on.
  bool MaySleep();

  const RawFabricOptions options_;
  fi_info* info_ = nullptr;
  fid_fabric* fabric_ = nullptr;
  fid_domain* domain_ = nullptr;
  fid_av* addresses_ = nullptr;
  fid_cq* completions_ = nullptr;
  fid_ep* endpoint_ = nullptr;
  fid_mr* region_ = nullptr;
  char* window_ = nullptr;
  int wait_fd_ = -1;
  RawFabricPeer self_ = {};
  RawFabricPeer peer_ = {};
  fi_addr_t peer_address_ = FI_ADDR_UNSPEC;
  std::array<fi_context2, kDepthMax> contexts_ = {};
  std::vector<fi_context2*> free_contexts_;
  std::size_t done_ = 0;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_FABRIC_ENDPOINT_H_
