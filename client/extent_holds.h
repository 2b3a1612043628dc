// ExtentHolds by a client's channel: memd is asked, and its wishes are passed
// on to the memory of the one device that the client has.
//
// Ownership: borrows the channel; ends the hook with itself. Threads: as
// ExtentHolds. Errors: FAILED_PRECONDITION: a memd that is too old to know of
// devices. Cost: Hold waits for memd's answer.
#ifndef AGENTMEM_CLIENT_EXTENT_HOLDS_H_
#define AGENTMEM_CLIENT_EXTENT_HOLDS_H_

#include "client/channel.h"
#include "client/device_memory.h"

namespace agentmem::client {

class ChannelExtentHolds final : public ExtentHolds {
 public:
  explicit ChannelExtentHolds(Channel* channel) : channel_(channel) {}
  ~ChannelExtentHolds() override;

  // From here on `memory` hears of memd's wishes.
  void Serve(DeviceMemory* memory);

  Outcome Hold(Session* session, std::uint64_t data_offset,
               std::uint64_t extents, const Deadline& deadline) override;
  void Release(Session* session, std::uint64_t data_offset) override;
  void AnswerRetire(Session* session, std::uint64_t token) override;

 private:
  Channel* const channel_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_EXTENT_HOLDS_H_
