// The endpoint that peers connect to, and the buffers that messages land in.
//
// A buffer is posted, or holds a message until TakeBack: then it is posted
// again. While all hold messages, further ones wait in the network.
//
// An inbox that the network will not give its buffers back to, or whose
// completion queue cannot be read (it was overrun), has failed, and stays so:
// the transport opens another one, whose address peers have to learn. Links of
// this node go on.
//
// One more buffer is posted for tagged messages, which no transport of ours
// sends: RxM would keep each in memory of its own until somebody asks for it.
//
// Ownership: owns the endpoint and the buffers. Threads: one at a time.
// Errors: as libfabric says. Cost: 0.5 MiB; allocates when opened alone.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_INBOX_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_INBOX_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memd/transport/fabric_link.h"

namespace agentmem {

class FabricInbox {
 public:
  static constexpr std::uint32_t kBuffers = 64;

  static absl::StatusOr<std::unique_ptr<FabricInbox>> Open(
      FabricDomain* domain);

  absl::StatusOr<std::string> Name() const { return endpoint_->Name(); }
  std::size_t Connections() const { return endpoint_->Connections(); }
  fid_cq* completions() const { return endpoint_->completions(); }

  // The buffer whose context this is, if it was posted; from here on it is not.
  std::optional<std::uint32_t> Take(const void* context);
  // It holds a message that is to be dropped.
  static bool IsTagged(std::uint32_t index) { return index >= kBuffers; }
  // Buffer `index` was received into: its bytes, until they are taken back.
  std::span<const char> Bytes(std::uint32_t index, std::uint64_t bytes) const;
  // The index of the buffer where these bytes lie.
  std::uint32_t IndexOf(std::span<const char> bytes) const;
  void TakeBack(std::uint32_t index) {
    unposted_.push_back(index);
    refused_ = false;
  }
  // Posts what was taken back. An error leaves it for the next time.
  void PostTakenBack();
  bool all_posted() const { return unposted_.empty(); }
  // There is something to post that was not tried yet.
  bool must_post() const { return !unposted_.empty() && !refused_; }

  // An error of a receive that is not known: of its buffer nothing is heard any
  // more, most likely (RxM: a rendezvous that failed).
  void NoteStrayError();
  // Its completion queue tells nothing any more.
  void Fail(const absl::Status& why) {
    if (broken_.ok()) broken_ = why;
  }
  // Not OK: it receives little or nothing any more.
  const absl::Status& broken() const { return broken_; }

 private:
  FabricInbox() = default;
  ssize_t Post(std::uint32_t index);

  static constexpr std::uint32_t kTaggedBuffers = 1;
  // Half of the buffers may be gone then.
  static constexpr std::uint32_t kStrayErrorsMax = kBuffers / 2;

  struct Receive {
    fi_context2 context;  // first: libfabric hands it back, and writes there
    bool posted = false;
  };

  FabricBuffer buffer_;
  std::vector<Receive> receives_;  // never resized
  std::unique_ptr<FabricEndpoint> endpoint_;
  std::vector<std::uint32_t> unposted_;
  bool refused_ = false;  // the last time that they were to be posted
  std::uint32_t stray_errors_ = 0;
  absl::Status broken_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_INBOX_H_
