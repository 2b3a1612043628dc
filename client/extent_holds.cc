#include "client/extent_holds.h"

namespace agentmem::client {

ChannelExtentHolds::~ChannelExtentHolds() { channel_->SetRetireHook(nullptr); }

void ChannelExtentHolds::Serve(DeviceMemory* memory) {
  channel_->SetRetireHook([memory](Session* session, std::uint64_t data_offset,
                                   std::uint64_t bytes, std::uint64_t token) {
    memory->Retire(session, data_offset, bytes, token);
  });
}

Outcome ChannelExtentHolds::Hold(Session* session, std::uint64_t data_offset,
                                 std::uint64_t extents,
                                 const Deadline& deadline) {
  return channel_->HoldExtents(session, data_offset, extents, deadline);
}

void ChannelExtentHolds::Release(Session* session, std::uint64_t data_offset) {
  channel_->ReleaseExtents(session, data_offset, 1);
}

void ChannelExtentHolds::AnswerRetire(Session* session, std::uint64_t token) {
  channel_->AnswerRetire(session, token);
}

}  // namespace agentmem::client
